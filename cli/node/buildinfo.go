package node

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Set by the linker (-X) in builds that cannot see the repository, such as the Dockerfile's; otherwise empty.
var linkedVersion, linkedCommit string

// Build describes the running binary.
type Build struct {
	// Version is a release, a Go pseudo-version, or dev if the build does not know.
	Version string `json:"version"`
	// Commit is empty if the build does not know.
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"` // of the commit
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// ReadBuild returns what the linker and the Go toolchain recorded in the binary.
func ReadBuild() Build {
	info, _ := debug.ReadBuildInfo()
	return buildOf(info, linkedVersion, linkedCommit)
}

func buildOf(info *debug.BuildInfo, version, commit string) Build {
	b := Build{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info != nil {
		if v := info.Main.Version; v != "(devel)" {
			b.Version = cmp.Or(b.Version, v)
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = cmp.Or(b.Commit, s.Value)
			case "vcs.time":
				b.Time = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	b.Version = cmp.Or(b.Version, "dev")
	return b
}

// CommitText returns the commit for people.
func (b *Build) CommitText() string {
	text := cmp.Or(b.Commit, "unknown")
	if b.Modified {
		text += " (modified)"
	}
	return text
}

func programVersion() string { return ReadBuild().Version }

// newBuildInfo returns the metric whose labels describe the binary.
func newBuildInfo() prometheus.Collector {
	b := ReadBuild()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "quorumhub_build_info", Help: "Always 1; the labels describe the running binary.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.CommitText(), "go": b.Go, "platform": b.Platform},
	}, func() float64 { return 1 })
}
