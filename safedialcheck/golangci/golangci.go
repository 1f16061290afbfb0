// Package golangci is the plugin "safedial" of golangci-lint's module plugin system.
package golangci

import (
	"fmt"

	"github.com/golangci/plugin-module-register/register"
	"golang.org/x/tools/go/analysis"

	"github.com/safedial/safedial/safedialcheck/dials"
	"github.com/safedial/safedial/safedialcheck/ignores"
	"github.com/safedial/safedial/safedialcheck/listenports"
)

func init() { register.Plugin("safedial", New) }

// Settings are the settings of the plugin. Each is a flag of safedialcheck.
type Settings struct {
	Range            string `json:"range"`
	Tests            bool   `json:"tests"`
	DefaultTransport bool   `json:"defaulttransport"`
}

type plugin struct{ settings Settings }

// New returns the plugin with the settings of .golangci.yml.
func New(raw any) (register.LinterPlugin, error) {
	settings, err := register.DecodeSettings[Settings](raw)
	if err != nil {
		return nil, err
	}
	return plugin{settings}, nil
}

// BuildAnalyzers returns the analyzers.
func (p plugin) BuildAnalyzers() ([]*analysis.Analyzer, error) {
	if p.settings.Range != "" {
		if err := listenports.Analyzer.Flags.Set("range", p.settings.Range); err != nil {
			return nil, fmt.Errorf("range: %w", err)
		}
	}
	flags := map[string]bool{
		"tests":            p.settings.Tests,
		"defaulttransport": p.settings.DefaultTransport,
	}
	for name, value := range flags {
		if err := dials.Analyzer.Flags.Set(name, fmt.Sprint(value)); err != nil {
			return nil, err
		}
	}
	return []*analysis.Analyzer{dials.Analyzer, listenports.Analyzer, ignores.Analyzer}, nil
}

// GetLoadMode returns the mode for analyzers that need types.
func (plugin) GetLoadMode() string { return register.LoadModeTypesInfo }
