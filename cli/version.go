package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// build describes the running binary.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (c *versionCmd) Run(s Streams) error {
	b := readBuild()
	if c.JSON {
		return json.NewEncoder(s.Out).Encode(b)
	}
	text := "quorumhub " + b.Version
	if b.Revision != "" {
		text += " " + b.Revision
		if b.Modified {
			text += " (modified)"
		}
	}
	_, err := fmt.Fprintf(s.Out, "%s %s %s\n", text, b.Go, b.Platform)
	return err
}

// programVersion names the program towards others: its version, or "dev" for a build from a work tree.
func programVersion() string {
	if v := readBuild().Version; v != "(devel)" && v != "" {
		return v
	}
	return "dev"
}
