package dialbench_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/dialbench"
)

func TestMain(m *testing.M) {
	dialbench.Main()
	os.Exit(m.Run())
}

const (
	rounds = 20 // batches that each dialer gets of a benchmark, at least
	batch  = 50 // dials of a batch, if there are so many
)

// BenchmarkDial times dials by both dialers.
func BenchmarkDial(b *testing.B) {
	for _, scene := range []dialbench.Scene{
		dialbench.Outside, dialbench.Inside, dialbench.Outside6, dialbench.Inside6,
		dialbench.Apart, dialbench.ApartIn, dialbench.Refused, dialbench.Veth, dialbench.VethApart,
		dialbench.LocalAddr, dialbench.Hostname, dialbench.HTTP, dialbench.UDP, dialbench.UDPInside, dialbench.Exhausted,
		dialbench.Goroutines8, dialbench.Goroutines64,
	} {
		rigs := newRigs(b, scene)
		compare(b, scene.Name, rigs, (*dialbench.Rig).Dials)
		dialbench.Close(rigs)
	}
}

// BenchmarkOpen times dials to a server that many connections lead to, each
// dialer's own, and how another program finds a port meanwhile.
func BenchmarkOpen(b *testing.B) {
	rigs := newRigs(b, dialbench.Outside)
	defer dialbench.Close(rigs)
	empty, err := dialbench.NewRigs(dialbench.Outside, dialbench.Safedial)
	require.NoError(b, err)
	defer dialbench.Close(empty)
	for _, open := range []int{0, 4000, 8000, 12000, 14000, 14200, 16000, 19000, 28000} {
		for _, rig := range rigs {
			require.NoError(b, rig.Open(open))
		}
		compare(b, fmt.Sprintf("%d/dial", open), append(rigs, empty...), (*dialbench.Rig).Dials)
		if open == 14000 || open == 19000 {
			compare(b, fmt.Sprintf("%d/bind", open), rigs, (*dialbench.Rig).Binds)
			compare(b, fmt.Sprintf("%d/listen", open), rigs, (*dialbench.Rig).Listens)
		}
	}
}

func newRigs(b *testing.B, scene dialbench.Scene) []*dialbench.Rig {
	b.Helper()
	rigs, err := dialbench.NewRigs(scene, dialbench.Net, dialbench.Safedial)
	require.NoError(b, err)
	return rigs
}

// compare reports the time of each dialer, the quartiles of their ratio, and the
// memory of each.
func compare(
	b *testing.B,
	name string,
	rigs []*dialbench.Rig,
	measure func(*dialbench.Rig, int) (dialbench.Batch, error),
) {
	b.Run(name, func(b *testing.B) {
		rounds := max(rounds, b.N/batch)
		series, err := dialbench.Compare(rigs, rounds, (b.N+rounds-1)/rounds, measure)
		require.NoError(b, err)
		net, safedial := series[0], series[1]
		ratio := safedial.Ratio(net)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(net.Time().Median, "net-ns/dial")
		b.ReportMetric(safedial.Time().Median, "safedial-ns/dial")
		b.ReportMetric(ratio.Low, "ratio-q1")
		b.ReportMetric(ratio.Median, "ratio")
		b.ReportMetric(ratio.High, "ratio-q3")
		b.ReportMetric(safedial.CPURatio(net).Median, "cpu-ratio")
		if len(series) > 2 {
			b.ReportMetric(safedial.Ratio(series[2]).Median, "ratio-to-empty")
		}
		b.ReportMetric(net.Mean().Median, "net-mean-ns/dial")
		b.ReportMetric(safedial.Mean().Median, "safedial-mean-ns/dial")
		b.ReportMetric(net.Mallocs().Median, "net-allocs/dial")
		b.ReportMetric(safedial.Mallocs().Median, "safedial-allocs/dial")
		b.ReportMetric(net.Bytes().Median, "net-B/dial")
		b.ReportMetric(safedial.Bytes().Median, "safedial-B/dial")
		b.ReportMetric(float64(net.Failed()+safedial.Failed()), "failed")
	})
}
