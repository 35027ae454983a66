package restore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coord/snapshot/datadir"
)

// Without a plan Recover does nothing. A plan that was never written completely is removed. One
// that this coord does not know, or that is damaged, stays.
func TestRecoverPlans(t *testing.T) {
	t.Parallel()
	first := func(in intent) string { return string(got(line(in))(t)) }
	swap := string(got(line(step{"swap"}))(t))
	in := intent{V: 1, ID: "id", Node: "0123456789abcdef", Target: "data"}
	for name, c := range map[string]struct {
		plan   string
		inside bool
		done   string
		check  func(error) bool
	}{
		"empty":         {done: "had not changed anything"},
		"torn":          {plan: first(in)[:20], done: "had not changed anything"},
		"built":         {plan: first(in), done: "was undone"},
		"torn swap":     {plan: first(in) + swap[:10], done: "was undone"},
		"nothing built": {plan: first(in) + swap, done: "was undone"},
		"inside":        {plan: first(intent{V: 1, ID: "id", Inside: true}), inside: true, done: "was undone"},
		"newer":         {plan: first(intent{V: 2, ID: "id"}), check: func(err error) bool { return errors.Is(err, datadir.ErrNewer) }},
		"damaged":       {plan: strings.Replace(first(in), "id", "ib", 1) + swap, check: isDamage},
		"elsewhere":     {plan: first(intent{V: 1, ID: "../x"}), check: isDamage},
		"no id":         {plan: first(intent{V: 1}), check: isDamage},
		"not inside":    {plan: first(in), inside: true, check: isDamage},
		"odd names":     {plan: first(intent{V: 1, ID: "id", Old: []string{"../x"}}), check: isDamage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir := filepath.Join(base, "data")
			form(t, dir).stop()
			if done, err := Recover(dir); done != "" || err != nil {
				t.Fatalf("without a plan: %q %v", done, err)
			}
			path := datadir.PlanPaths(dir)[0]
			if c.inside {
				path = datadir.PlanPaths(dir)[1]
			}
			must(t, os.WriteFile(path, []byte(c.plan), 0o600))
			before := hashFolder(t, base)
			done, err := Recover(dir)
			if c.check != nil {
				if !c.check(err) || hashFolder(t, base) != before {
					t.Errorf("%q, error %v", done, err)
				}
				return
			}
			if err != nil || !strings.Contains(done, c.done) {
				t.Errorf("%q, error %v", done, err)
			}
			onlyData(t, base)
			start(t, dir).stop()
		})
	}
}

func isDamage(err error) bool {
	var e *datadir.DamageError
	return errors.As(err, &e)
}

// If somebody removes the new folder after the exchange has begun, the old one comes back, or the
// plan stays until it is clear which folder is which.
func TestRecoverWithoutNewFolder(t *testing.T) {
	t.Parallel()
	for step, back := range map[string]bool{"exchange the folders": true, "move the new folder in": true} {
		base := t.TempDir()
		s := newSample(t, base)
		before := hashFolder(t, s.dir)
		x := task{File: s.backup, DataDir: s.dir, Replace: true, NoExchange: true, KillAfter: "begin the exchange"}
		if step == "move the new folder in" {
			x.KillAfter = "move the old folder away"
		}
		if killed, steps := x.run(t); !killed || steps[len(steps)-1] != step {
			t.Fatalf("steps %q", steps)
		}
		must(t, os.RemoveAll(got(filepath.Glob(s.dir + ".restore-2*"))(t)[0]))
		done, err := Recover(s.dir)
		if err != nil || !strings.Contains(done, "undone") != !back {
			t.Errorf("%s: %q %v", step, done, err)
		}
		if hashFolder(t, s.dir) != before {
			t.Errorf("%s: the old folder is not back", step)
		}
		onlyData(t, base)
	}
}

// If the file system refuses a rename in the middle, a plan remains, and the next attempt continues it.
func TestPartial(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	first := true
	o := Options{File: s.backup, DataDir: s.dir, Replace: true, exchange: func(a, b string) error {
		if first {
			first = false
			must(t, os.Rename(b, b+".pre-restore-"+strings.TrimPrefix(filepath.Base(a), "data.restore-")))
			return os.ErrPermission
		}
		return exchange(a, b)
	}}
	_, err := Run(t.Context(), o)
	if e := wantAs[*PartialError](t, err); e.Plan != s.dir+".restore-plan" || !errors.Is(err, os.ErrPermission) {
		t.Errorf("error %+v", e)
	}
	if _, err := datadir.Open(s.dir, true); !errors.Is(err, datadir.ErrUnfinished) {
		t.Errorf("open: %v", err)
	}
	done, err := Recover(s.dir)
	must(t, err)
	if !strings.Contains(done, "completed: the old data is in") {
		t.Errorf("done %q", done)
	}
	n := start(t, s.dir)
	defer n.stop()
	if content(n.tree) != s.content {
		t.Error("the content differs")
	}
	if len(names(t, base)) != 3 {
		t.Errorf("left: %v", names(t, base))
	}

	// If the rename is refused at once, nothing has changed.
	base = t.TempDir()
	s = newSample(t, base)
	before := hashFolder(t, base)
	o = Options{File: s.backup, DataDir: s.dir, Replace: true, exchange: func(string, string) error { return os.ErrPermission }}
	if _, err := Run(t.Context(), o); !errors.Is(err, os.ErrPermission) || hashFolder(t, base) != before {
		t.Errorf("error %v, left: %v", err, names(t, base))
	}
}

// A line that could not be made durable may still be in the file. So the plan is removed before
// what was built, so that nothing completes an exchange with a half-built folder.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := got(beginPlan(places{dir: dir, id: "not\x00to be removed"}, intent{V: 1, ID: "id"}))(t)
	must(t, p.file.Close())
	if err := p.commit(); err == nil {
		t.Fatal("a line was written to a closed file")
	}
	if err := p.undo(); err == nil || exists(p.plan()) {
		t.Errorf("error %v, the plan is there: %v", err, exists(p.plan()))
	}
}
