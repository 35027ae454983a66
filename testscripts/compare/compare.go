package compare

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pair is two servers; Real is right by definition.
type Pair struct {
	Real, Other string // addresses
	Via         string // if not empty, a proxy for Other, which sequences use and Controls do not

	// Log, unless nil, receives each step with the real server's replies.
	Log func(string)

	played atomic.Int64 // number of sequences; each has its own znode
}

// Controls are the connections that prepare both servers. Only one goroutine at a
// time may use them.
type Controls struct{ real, other *Control }

// Controls connects to both servers.
func (p *Pair) Controls() (Controls, error) {
	a, err := NewControl(p.Real)
	if err != nil {
		return Controls{}, err
	}
	b, err := NewControl(p.Other)
	return Controls{a, b}, err
}

// Close closes both connections.
func (c Controls) Close() {
	c.real.Close()
	c.other.Close()
}

// Difference is the point where two plays of a sequence diverge.
type Difference struct {
	Steps       []Step
	At          int // index of the step; len(Steps): the end of the sessions; one more: the znodes left behind
	Real, Other []string
}

func (d *Difference) String() string {
	var b strings.Builder
	for i := range d.Steps {
		mark := "  "
		if i == d.At {
			mark = "> "
		}
		fmt.Fprintf(&b, "%s%s\n", mark, d.Steps[i].String())
	}
	if d.At >= len(d.Steps) {
		fmt.Fprintf(&b, "> %s\n", [...]string{"the sessions that are left end", "what is left behind"}[d.At-len(d.Steps)])
	}
	show := func(who string, lines, others []string) {
		for i, l := range lines {
			mark := " "
			if i >= len(others) || others[i] != l {
				mark = "*"
			}
			fmt.Fprintf(&b, "%s%s %s\n", who, mark, l)
		}
		if len(lines) == 0 {
			fmt.Fprintf(&b, "%s* nothing\n", who)
		}
	}
	show("real ", d.Real, d.Other)
	show("other", d.Other, d.Real)
	return b.String()
}

// Play plays a sequence to both servers. The Counts are those of the real one.
func (p *Pair) Play(c Controls, steps []Step) (*Difference, Counts, error) {
	number := p.played.Add(1)
	prefix := fmt.Sprintf("%s/%07d", top, number)
	play := func(k *Control, via string) (*Player, [][]string, error) {
		if via == "" {
			via = k.addr
		}
		player := &Player{
			addr: via, control: k.c, number: number, prefix: prefix, marks: markTop + strings.TrimPrefix(prefix, top), sortACL: manyUsers(steps),
			sessions: map[int]*session{}, byID: map[int64]*session{}, zxids: map[int64]bool{}, times: map[int64]int64{}, told: map[*conn]int64{}, counts: Counts{},
		}
		lines, err := player.Play(steps)
		if err != nil {
			err = fmt.Errorf("at %s: %w", k.addr, err)
		}
		return player, lines, err
	}
	var other [][]string
	var otherErr error
	var wg sync.WaitGroup
	wg.Go(func() { _, other, otherErr = play(c.other, p.Via) })
	player, lines, err := play(c.real, "")
	wg.Wait()
	if err != nil {
		return nil, nil, err
	}
	if otherErr != nil {
		return nil, nil, otherErr
	}
	for i := range lines {
		if p.Log != nil {
			text := "end"
			if i < len(steps) {
				text = steps[i].String()
			}
			p.Log(fmt.Sprintf("%s\n\t%s (%v)", text, strings.Join(lines[i], "\n\t"), player.took[i].Round(time.Millisecond)))
		}
		if !slices.Equal(lines[i], other[i]) {
			return &Difference{Steps: steps, At: i, Real: lines[i], Other: other[i]}, player.counts, nil
		}
	}
	return nil, player.counts, nil
}

// manyUsers says whether a connection may authenticate as two users of the digest
// scheme: then the entries for which "auth" stands have no order.
func manyUsers(steps []Step) bool {
	user := ""
	for i := range steps {
		for j := range steps[i].Requests {
			r := &steps[i].Requests[j]
			if r.Op != 100 || r.ACL != "digest" {
				continue
			}
			if user != "" && user != r.Data {
				return true
			}
			user = r.Data
		}
	}
	return false
}

// Shrink leaves out steps, requests and parts of multis while a difference remains
// and there is time. again says whether the difference occurred again at all.
func (p *Pair) Shrink(c Controls, d *Difference, within time.Duration) (_ *Difference, again bool, err error) {
	best := d
	deadline := time.Now().Add(within)
	differs := func(steps []Step) (bool, error) {
		if time.Now().After(deadline) {
			return false, nil
		}
		got, _, err := p.Play(c, steps)
		if err != nil || got == nil {
			return false, err
		}
		best = got
		return true, nil
	}
	for _, steps := range [][]Step{best.Steps[:min(best.At+1, len(best.Steps))], best.Steps, best.Steps} {
		if again, err = differs(slices.Clone(steps)); err != nil || again {
			break
		}
	}
	if !again {
		return best, false, err
	}
	for size := max(1, len(best.Steps)/2); ; size = max(1, size/2) {
		changed := false
		for from := 0; from < len(best.Steps); {
			to := min(from+size, len(best.Steps))
			less := slices.Concat(best.Steps[:from], best.Steps[to:])
			if ok, err := differs(less); err != nil {
				return best, true, err
			} else if ok {
				changed = true
			} else {
				from = to
			}
		}
		if size == 1 && (!changed || time.Now().After(deadline)) {
			break
		}
	}
	// Then shrink the steps themselves.
	for i := 0; i < len(best.Steps); i++ {
		for j := 0; j < len(best.Steps[i].Requests) && len(best.Steps[i].Requests) > 1; {
			less := slices.Clone(best.Steps)
			less[i].Requests = slices.Delete(slices.Clone(less[i].Requests), j, j+1)
			if ok, err := differs(less); err != nil {
				return best, true, err
			} else if !ok {
				j++
			}
		}
		for j := 0; i < len(best.Steps) && j < len(best.Steps[i].Requests); j++ {
			for k := 0; k < len(best.Steps[i].Requests[j].Ops); {
				less := slices.Clone(best.Steps)
				less[i].Requests = slices.Clone(less[i].Requests)
				r := &less[i].Requests[j]
				r.Ops = slices.Delete(slices.Clone(r.Ops), k, k+1)
				if ok, err := differs(less); err != nil {
					return best, true, err
				} else if !ok {
					k++
				}
			}
		}
	}
	return best, true, nil
}
