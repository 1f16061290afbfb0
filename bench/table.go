//go:build linux

package main

import (
	"fmt"

	"github.com/safedial/safedial/internal/dialbench"
)

func printScenes(scenes []scene) {
	fmt.Println(
		"| dial | net.Dialer | safedial | elapsed (quartiles) | processor time (quartiles) | " +
			"of the whole machine | net.Dialer, safedial by the floor | allocations | bytes |",
	)
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, s := range scenes {
		floors := ""
		if len(s.series) > floor {
			floors = fmt.Sprintf(
				"%.2f, %.2f",
				s.series[net].Ratio(s.series[floor]).Median,
				s.series[safedial].Ratio(s.series[floor]).Median,
			)
		}
		fmt.Printf("| %s | %s | %s | %s | %s | %.2f | %s | %s | %s |\n", s.title,
			duration(s.series[net].Time().Median), duration(s.series[safedial].Time().Median),
			ratio(s.series[safedial].Ratio(s.series[net])), ratio(s.series[safedial].CPURatio(s.series[net])),
			s.series[safedial].Machine()/s.series[net].Machine(), floors,
			pair("%.0f, %.0f", s.series, dialbench.Series.Mallocs), pair("%.0f, %.0f", s.series, dialbench.Series.Bytes))
	}
	fmt.Println()
}

func pair(format string, series []dialbench.Series, figure func(dialbench.Series) dialbench.Spread) string {
	return fmt.Sprintf(format, figure(series[net]).Median, figure(series[safedial]).Median)
}

func printOpen(points []point) {
	fmt.Println(
		"| open connections | net.Dialer | safedial | ratio (quartiles) | safedial by itself with none | " +
			"bind(0) beside net.Dialer's, safedial's (mean) | Listen(\":0\") (mean) | of these failed |",
	)
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, p := range points {
		fmt.Printf(
			"| %d | %s | %s | %s | %s | %s | %s | %d, %d |\n",
			p.open,
			duration(
				p.dial[net].Time().Median,
			),
			duration(p.dial[safedial].Time().Median),
			ratio(p.dial[safedial].Ratio(p.dial[net])),
			ratio(p.dial[safedial].Ratio(p.dial[empty])),
			means(p.bind),
			means(p.listen),
			p.bind[net].Failed()+p.listen[net].Failed(),
			p.bind[safedial].Failed()+p.listen[safedial].Failed(),
		)
	}
	fmt.Println()
}

// means are for what takes long now and then: a bind(2) that starts its search
// where all ports are taken.
func means(series []dialbench.Series) string {
	return duration(series[net].Mean().Median) + ", " + duration(series[safedial].Mean().Median)
}

func duration(ns float64) string {
	if ns >= 1e6 {
		return fmt.Sprintf("%.2f ms", ns/1e6)
	}
	return fmt.Sprintf("%.1f µs", ns/1e3)
}

func ratio(s dialbench.Spread) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High)
}
