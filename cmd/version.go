package cmd

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// release is the version of this source code.
const release = "0.1.0"

// writer is the name of this program in backups.
const writer = "coord " + release

func versionCommand() *command {
	return &command{
		name: "version", does: "print the version of this program",
		examples: []string{"coord version", "coord --version"},
		run: func(_ context.Context, r *run) error {
			b := readBuild()
			if r.json {
				r.object(b)
				return nil
			}
			r.printf("coord %s %s %s/%s", b.Version, b.Go, b.OS, b.Arch)
			if b.Commit != "" {
				r.printf(" %s", b.Commit)
			}
			if b.Modified {
				r.printf(" modified")
			}
			r.printf("\n")
			return nil
		},
	}
}

// build says from which source this program was built.
type build struct {
	V        int    `json:"v"`
	Version  string `json:"version"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"` // of the commit
	Modified bool   `json:"modified,omitempty"`
}

func readBuild() build {
	b := build{V: schema, Version: release, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value[:min(len(s.Value), 12)]
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// built is the time of the commit, formatted like ZooKeeper's.
func (b build) built() string {
	t, err := time.Parse(time.RFC3339, b.Time)
	if err != nil {
		t = time.Unix(0, 0)
	}
	return t.UTC().Format("01/02/2006 15:04") + " GMT"
}
