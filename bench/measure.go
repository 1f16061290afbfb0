//go:build linux

package main

import (
	"fmt"

	"github.com/safedial/safedial/internal/dialbench"
)

// dialsPerBatch keeps a batch short, so that the batches beside it saw the
// machine in the same mood.
const dialsPerBatch = 100

// A scene is what was measured of one, by each of its rigs.
type scene struct {
	dialbench.Scene
	title  string
	series []dialbench.Series
}

var titles = []struct {
	scene dialbench.Scene
	title string
}{
	{dialbench.Apart, "accepted, port outside of the local range"},
	{dialbench.ApartIn, "accepted, port inside"},
	{dialbench.Refused, "refused"},
	{dialbench.Outside, "accepted by the same process, outside"},
	{dialbench.Inside, "accepted by the same process, inside"},
	{dialbench.Outside6, "the same, outside, IPv6"},
	{dialbench.Inside6, "the same, inside, IPv6"},
	{dialbench.VethApart, "across a veth pair"},
	{dialbench.Veth, "across a veth pair, to the same process"},
	{dialbench.LocalAddr, "from LocalAddr 127.0.0.1:0"},
	{dialbench.Hostname, "a name with two addresses"},
	{dialbench.HTTP, "http.Transport without keep-alives"},
	{dialbench.UDP, "UDP, port outside"},
	{dialbench.UDPInside, "UDP, port inside"},
	{dialbench.Goroutines8, "8 goroutines"},
	{dialbench.Goroutines64, "64 goroutines"},
	{dialbench.Exhausted, fmt.Sprintf("no port left of %d", dialbench.Ports)},
}

func measureScenes(rounds int, step func(string)) ([]scene, error) {
	var scenes []scene
	for _, t := range titles {
		step(t.title)
		dialers := []string{dialbench.Net, dialbench.Safedial}
		if t.scene.LocalAddr == "" && !t.scene.TwoAddresses && !t.scene.HTTP && t.scene.Network == "" {
			dialers = append(dialers, dialbench.Floor)
		}
		rigs, err := dialbench.NewRigs(t.scene, dialers...)
		if err != nil {
			return nil, err
		}
		r, n := rounds, dialsPerBatch
		if t.scene.Exhausted {
			r, n = min(rounds, 60), 1 // one takes a thousand times as long
		}
		series, err := compare(rigs, r, n, (*dialbench.Rig).Dials)
		dialbench.Close(rigs)
		if err != nil {
			return nil, err
		}
		scenes = append(scenes, scene{t.scene, t.title, series})
	}
	return scenes, nil
}

// compare is dialbench.Compare after a batch that warms up.
func compare(
	rigs []*dialbench.Rig,
	rounds, n int,
	measure func(*dialbench.Rig, int) (dialbench.Batch, error),
) ([]dialbench.Series, error) {
	if _, err := dialbench.Compare(rigs, 1, n, measure); err != nil {
		return nil, err
	}
	return dialbench.Compare(rigs, rounds, n, measure)
}

// A point is what was measured while a number of connections were open.
type point struct {
	open         int
	dial         []dialbench.Series // with a third rig, that has none open
	bind, listen []dialbench.Series
}

func measureOpen(rounds int, step func(string)) ([]point, error) {
	// The third stays without connections, to compare with.
	rigs, err := dialbench.NewRigs(dialbench.Outside, dialbench.Net, dialbench.Safedial, dialbench.Safedial)
	if err != nil {
		return nil, err
	}
	defer dialbench.Close(rigs)
	both := rigs[:2]
	var points []point
	for _, open := range []int{0, 4000, 8000, 12000, 13500, 14000, 14200, 16000, 19000, 24000, 28000} {
		step(fmt.Sprintf("%d open connections", open))
		for _, rig := range both {
			if err := rig.Open(open); err != nil {
				return nil, err
			}
		}
		p := point{open: open}
		r, n := rounds, dialsPerBatch
		if open > 14000 {
			r, n = min(rounds, 40), 20 // net.Dialer's take thirty times as long
		}
		if p.dial, err = compare(rigs, r, n, (*dialbench.Rig).Dials); err != nil {
			return nil, err
		}
		if p.bind, err = compare(both, 40, dialsPerBatch, (*dialbench.Rig).Binds); err != nil {
			return nil, err
		}
		if p.listen, err = compare(both, 40, dialsPerBatch, (*dialbench.Rig).Listens); err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}
