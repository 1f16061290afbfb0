//go:build linux

package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/safedial/safedial/internal/dialbench"
)

// Blue and orange are told apart by all eyes.
var (
	colors = []color.Color{
		net:      color.RGBA{213, 94, 0, 255},
		safedial: color.RGBA{0, 114, 178, 255},
		floor:    color.Gray{128},
	}
	names = []string{net: "net.Dialer", safedial: "safedial", floor: "system calls"}
)

func init() {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
}

// drawCost draws the time of a dial by the number of open connections.
func drawCost(points []point, directory string) error {
	p := newPlot(
		"Time of a dial while connections to the same server are open",
		fmt.Sprintf("open connections, of %d local ports", dialbench.Ports),
		"µs (median and quartiles)",
	)
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Max, p.Y.Min, p.Y.Max = 28000, 10, 10000
	p.Add(plotter.NewGrid())
	for dialer := range 2 {
		var xys plotter.XYs
		var errs plotter.YErrors
		for _, point := range points {
			t := point.dial[dialer].Time()
			xys = append(xys, plotter.XY{X: float64(point.open), Y: t.Median / 1e3})
			errs = append(errs, struct{ Low, High float64 }{(t.Median - t.Low) / 1e3, (t.High - t.Median) / 1e3})
		}
		line, dots, err := plotter.NewLinePoints(xys)
		if err != nil {
			return err
		}
		bars, err := plotter.NewYErrorBars(struct {
			plotter.XYs
			plotter.YErrors
		}{xys, errs})
		if err != nil {
			return err
		}
		line.Color, line.Width = colors[dialer], vg.Points(1.5)
		dots.Color, dots.Shape = colors[dialer], draw.CircleGlyph{}
		bars.Color = colors[dialer]
		p.Add(line, dots, bars)
		p.Legend.Add(names[dialer], line, dots)
	}
	p.X.Tick.Marker = plot.TickerFunc(func(_, _ float64) (ticks []plot.Tick) {
		for n := 0; n <= 28000; n += 4000 {
			ticks = append(ticks, plot.Tick{Value: float64(n), Label: fmt.Sprint(n)})
		}
		return ticks
	})
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs = true, true, vg.Points(6)
	return save(directory, "dial-cost.svg", 18*vg.Centimeter, 10*vg.Centimeter, func(c draw.Canvas) { p.Draw(c) })
}

// fastest is where the axis of the distributions begins, in microseconds.
const fastest = 2

// drawLatency draws the fraction of the dials that took no longer than a time.
func drawLatency(scenes []scene, directory string) error {
	rows := [][]*plot.Plot{make([]*plot.Plot, 2), make([]*plot.Plot, 2)}
	for i, name := range []string{
		dialbench.Outside.Name, dialbench.Apart.Name, dialbench.Refused.Name, dialbench.Veth.Name,
	} {
		s := scenes[slices.IndexFunc(scenes, func(s scene) bool { return s.Name == name })]
		p := newPlot(s.title, "µs", "fraction of the dials")
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = fastest, 1000, 0, 1
		p.Add(plotter.NewGrid())
		for dialer, series := range s.series {
			line, err := plotter.NewLine(distribution(series))
			if err != nil {
				return err
			}
			line.Color, line.Width = colors[dialer], vg.Points(1.5)
			p.Add(line)
			p.Legend.Add(names[dialer], line)
		}
		p.Legend.Left, p.Legend.XOffs = true, vg.Points(140)
		rows[i/2][i%2] = p
	}
	return save(directory, "dial-latency.svg", 22*vg.Centimeter, 15*vg.Centimeter, func(c draw.Canvas) {
		tiles := draw.Tiles{Rows: 2, Cols: 2, PadX: vg.Centimeter / 2, PadY: vg.Centimeter / 2, PadRight: vg.Centimeter / 2}
		for i, row := range plot.Align(rows, tiles, c) {
			for j, canvas := range row {
				rows[i][j].Draw(canvas)
			}
		}
	})
}

// distribution returns the quantiles of the times in microseconds, from 1 to 99
// in a hundred: beyond, a single interrupt shows.
func distribution(series dialbench.Series) plotter.XYs {
	var all []float64
	for _, batch := range series {
		all = append(all, batch.Each...)
	}
	slices.Sort(all)
	var xys plotter.XYs
	for part := 0.01; part < 0.995; part += 0.005 {
		xys = append(xys, plotter.XY{X: max(fastest, all[int(part*float64(len(all)-1))]/1e3), Y: part})
	}
	return xys
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.BackgroundColor = color.White
	p.Title.Padding, p.Legend.Padding = vg.Points(8), vg.Points(3)
	return p
}

func save(directory, name string, width, height vg.Length, paint func(draw.Canvas)) (err error) {
	canvas := vgsvg.New(width, height)
	paint(draw.Crop(draw.New(canvas), 0, -vg.Points(12), 0, 0)) // room for the last label of the axis
	file, err := os.Create(filepath.Join(directory, name))
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(file)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
