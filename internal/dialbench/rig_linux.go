package dialbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/safedial/safedial/internal/netns"
)

// A Rig is a scene set for one dialer, in a process of its own.
type Rig struct {
	*process
	dialer string
}

// A process is one that this package has started, which answers in turn.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// NewRigs sets the scene for each of the dialers. When no port is left they share
// a process: how long it takes to look at every port depends on where the
// namespace's ports lie in the kernel's hash tables, and they open none themselves.
func NewRigs(scene Scene, dialers ...string) (rigs []*Rig, err error) {
	var p *process
	for _, dialer := range dialers {
		if p == nil || !scene.Exhausted {
			if p, err = start(scene); err != nil {
				Close(rigs)
				return nil, fmt.Errorf("%s: %w", scene.Name, err)
			}
		}
		rigs = append(rigs, &Rig{p, dialer})
	}
	return rigs, nil
}

// start sets the scene in a new process.
func start(scene Scene) (*process, error) {
	cmd := netns.Command(context.Background())
	cmd.Env = append(os.Environ(), roleEnv+"="+dialRole)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("no namespaces of its own: %w", err)
	}
	p := &process{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out)}
	if _, err := p.ask(request{Op: "set", Scene: scene}); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// Close ends the processes of the rigs.
func Close(rigs []*Rig) {
	for _, rig := range rigs {
		rig.close()
	}
}

// close may be called again.
func (p *process) close() {
	p.in.Close()
	_ = p.cmd.Wait()
}

// Open opens connections to the server until n are open.
func (r *Rig) Open(n int) error {
	_, err := r.ask(request{Op: "open", Dialer: r.dialer, N: n})
	return err
}

// Dials dials n times, and hangs up.
func (r *Rig) Dials(n int) (Batch, error) { return r.ask(request{Op: "dial", Dialer: r.dialer, N: n}) }

// Binds binds port 0 n times.
func (r *Rig) Binds(n int) (Batch, error) { return r.ask(request{Op: "bind", N: n}) }

// Listens listens on port 0 n times.
func (r *Rig) Listens(n int) (Batch, error) { return r.ask(request{Op: "listen", N: n}) }

func (p *process) ask(q request) (Batch, error) {
	if err := p.enc.Encode(q); err != nil {
		return Batch{}, err
	}
	var answer reply
	if err := p.dec.Decode(&answer); err != nil {
		return Batch{}, fmt.Errorf("the process of the dialer ended: %w", err)
	}
	if answer.Err != "" {
		return answer.Batch, errors.New(answer.Err)
	}
	return answer.Batch, nil
}

// A Series is the batches of one rig.
type Series []Batch

// Compare has the rigs measure a batch of n each, in turn, forth and back, until
// each has done rounds of them.
func Compare(rigs []*Rig, rounds, n int, measure func(*Rig, int) (Batch, error)) ([]Series, error) {
	series := make([]Series, len(rigs))
	for round := range rounds {
		for i := range rigs {
			if round%2 == 1 {
				i = len(rigs) - 1 - i
			}
			batch, err := measure(rigs[i], n)
			if err != nil {
				return nil, err
			}
			series[i] = append(series[i], batch)
		}
	}
	return series, nil
}

// A Spread is the quartiles of something measured many times.
type Spread struct{ Low, Median, High float64 }

// Quartiles returns the Spread of values, at least one.
func Quartiles(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	at := func(part float64) float64 { return sorted[int(part*float64(len(sorted)-1)+0.5)] }
	return Spread{at(0.25), at(0.5), at(0.75)}
}

// Time is the spread of the batches' times per dial, in nanoseconds.
func (s Series) Time() Spread { return s.of(Batch.Time) }

// Mean is the spread of the batches' mean times.
func (s Series) Mean() Spread { return s.of(Batch.Mean) }

// Mallocs is the spread of the allocations per dial.
func (s Series) Mallocs() Spread { return s.of(func(b Batch) float64 { return b.Mallocs }) }

// Bytes is the spread of the bytes allocated per dial.
func (s Series) Bytes() Spread { return s.of(func(b Batch) float64 { return b.Bytes }) }

// CPU is the spread of the processor time per dial of the dialing process.
func (s Series) CPU() Spread { return s.of(func(b Batch) float64 { return b.CPU }) }

// Machine is the mean processor time per dial of all processes.
func (s Series) Machine() (mean float64) {
	for _, b := range s {
		mean += b.Machine / float64(len(s))
	}
	return mean
}

// Failed is how many binds found no port.
func (s Series) Failed() (n int) {
	for _, b := range s {
		n += b.Failed
	}
	return n
}

func (s Series) of(figure func(Batch) float64) Spread {
	values := make([]float64, len(s))
	for i, b := range s {
		values[i] = figure(b)
	}
	return Quartiles(values)
}

// Ratio is the spread of the times of s by those of the batches beside them.
func (s Series) Ratio(to Series) Spread { return s.ratio(to, Batch.Time) }

// CPURatio is Ratio of the processor times.
func (s Series) CPURatio(to Series) Spread {
	return s.ratio(to, func(b Batch) float64 { return b.CPU })
}

func (s Series) ratio(to Series, figure func(Batch) float64) Spread {
	values := make([]float64, len(s))
	for i := range s {
		values[i] = figure(s[i]) / figure(to[i])
	}
	return Quartiles(values)
}
