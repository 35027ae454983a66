package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/peer"
	"coord/server/replica"
	"coord/tree/znode"
)

// An operator is told that nothing was done only if the leader was not asked, or has said so.
func TestOutcomeAt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer memberAnswer
		err    error
		want   znode.Code
	}{
		"done":            {want: znode.OK},
		"refused":         {answer: memberAnswer{Code: int32(znode.ErrThrottledOp), Text: "not now"}, want: znode.ErrThrottledOp},
		"never asked":     {err: errors.New("connection refused"), want: znode.ErrNoLeader},
		"says no":         {err: &peer.RemoteError{Text: "this node does not lead"}, want: znode.ErrNoLeader},
		"answer was lost": {err: fmt.Errorf("the link: %w", peer.ErrUnanswered), want: znode.ErrUncertain},
	} {
		if err := outcomeAt("n2:2888", &tt.answer, tt.err); codeOf(err) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := outcomeAt("n2:2888", nil, errHandedOver); !errors.Is(err, errHandedOver) {
		t.Errorf("handed over: %v", err)
	}
}

func TestOutcomeOfHandOver(t *testing.T) {
	t.Parallel()
	late := context.DeadlineExceeded
	leads := replica.Status{Role: "leader", Term: 2, Leader: 1}
	for name, tt := range map[string]struct {
		err   error
		after replica.Status
		want  znode.Code
	}{
		"done":                      {nil, replica.Status{Role: "follower", Term: 3, Leader: 2}, znode.OK},
		"done, and back again":      {nil, replica.Status{Role: "leader", Term: 4, Leader: 1}, znode.OK},
		"nobody else votes":         {nil, leads, znode.ErrBadArguments},
		"nobody could take it over": {late, leads, znode.ErrThrottledOp},
		"it is lost":                {late, replica.Status{Role: "candidate", Term: 3}, znode.ErrNoLeader},
	} {
		if err := outcomeOfHandOver(tt.err, leads, tt.after); codeOf(err) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The reply to an operator who asked a follower shows what the leader did: the follower first learns of it.
func TestNodeStatusKnows(t *testing.T) {
	t.Parallel()
	done := nodeStatus{Term: 4, Leader: "n3", Applied: 7}
	for name, tt := range map[string]struct {
		own  nodeStatus
		want bool
	}{
		"the same":                      {nodeStatus{Term: 4, Leader: "n3", Applied: 7}, true},
		"further":                       {nodeStatus{Term: 5, Leader: "n1", Applied: 9}, true},
		"the leader before":             {nodeStatus{Term: 3, Leader: "n2", Applied: 7}, false},
		"no leader yet":                 {nodeStatus{Term: 4, Applied: 7}, false},
		"the members are not those yet": {nodeStatus{Term: 4, Leader: "n3", Applied: 6}, false},
	} {
		if got := tt.own.knows(&done); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !new(nodeStatus).knows(nil) {
		t.Error("waits for nothing") // an older node says nothing
	}
}

// codeOf is the code that an operator gets; ErrUnknown for an error of another kind.
func codeOf(err error) znode.Code {
	if refused, ok := errors.AsType[*frontend.AdminError](err); ok {
		return refused.Code
	} else if err != nil {
		return znode.ErrUnknown
	}
	return znode.OK
}

// An operator's command waits a while for a leader, but not for ever, and is not carried out twice.
func TestUntilLed(t *testing.T) {
	t.Parallel()
	none, unsure := adminError(znode.ErrNoLeader, "nobody"), adminError(znode.ErrUncertain, "who knows")
	for name, tt := range map[string]struct {
		answers []error // the last one is repeated
		want    znode.Code
		tries   int // 0: not counted
	}{
		"a leader":                 {[]error{nil}, znode.OK, 1},
		"a leader after a while":   {[]error{none, none, nil}, znode.OK, 3},
		"none":                     {[]error{none}, znode.ErrNoLeader, 0},
		"handed over":              {[]error{errHandedOver, none, errHandedOver, nil}, znode.OK, 4},
		"handed over and over":     {[]error{errHandedOver}, znode.ErrNoLeader, maxHops},
		"not known, so not again":  {[]error{none, unsure, nil}, znode.ErrUncertain, 2},
		"refused, so not again":    {[]error{adminError(znode.ErrThrottledOp, "no"), nil}, znode.ErrThrottledOp, 1},
		"another error, not again": {[]error{errors.New("no"), nil}, znode.ErrUnknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries, began := 0, time.Now()
				err := untilLed(t.Context(), func() error {
					tries++
					return tt.answers[min(tries, len(tt.answers))-1]
				})
				if codeOf(err) != tt.want || tt.tries != 0 && tries != tt.tries || time.Since(began) > leaderTime+handOverPause {
					t.Errorf("%v after %d tries and %v", err, tries, time.Since(began))
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // the leader was asked at first, and hung
		tries := 0
		if err := untilLed(t.Context(), func() error {
			if tries++; tries > 1 {
				return nil
			}
			time.Sleep(2 * leaderTime)
			return none
		}); err != nil {
			t.Errorf("another leads by now: %v", err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := untilLed(ctx, func() error { return none }); !errors.Is(err, none) {
		t.Errorf("whoever asked has gone: %v", err)
	}
}

// The members that a change was about are found by the same rule by which they were named: db1, the
// name of one node, is not the beginning of another one's id.
func TestWhatAChangeWasAbout(t *testing.T) {
	t.Parallel()
	item := func(id, name string) frontend.AdminItem {
		return frontend.AdminItem{Name: id, Facts: []frontend.Fact{{Key: "name", Value: name}}}
	}
	for word, want := range map[string]string{"db1": "0a", "DB1F": "db1f22", "db1f": "db1f22", "n3": "", "": ""} {
		got := itemsOf([]frontend.AdminItem{item("0a", "db1"), item("db1f22", "n2"), item("77", "")}, []string{word})
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || got[0].Name != want) {
			t.Errorf("%q: %v, not %q", word, got, want)
		}
	}
}
