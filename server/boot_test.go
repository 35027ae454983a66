package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"coord/server"
	"coord/snapshot/datadir"
)

// TestAStartIsCounted in the folder, before it is told.
func TestAStartIsCounted(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	for boot := uint64(1); boot <= 3; boot++ {
		var log bytes.Buffer
		ctx, stop := context.WithCancel(t.Context())
		if err := server.Run(ctx, cfg, zerolog.New(&log), func(server.Listening) { stop() }); err != nil {
			t.Fatal(err)
		}
		id, _, err := datadir.ReadIdentity(cfg.DataDir)
		if err != nil || id.Boot != boot {
			t.Errorf("boot %d, want %d: %v", id.Boot, boot, err)
		}
		if want := fmt.Sprintf(`"boot":%d,`, boot); !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in %s", want, log.String())
		}
	}
}

// TestNoStartFromWhatIsNoMember: a folder that is bound to a founding, removed or
// faulty is left as it is.
func TestNoStartFromWhatIsNoMember(t *testing.T) {
	t.Parallel()
	for state, want := range map[datadir.State]error{datadir.Promised: server.ErrConfig, datadir.Removed: server.ErrForeign, datadir.Faulty: server.ErrDamaged} {
		cfg := testConfig(t)
		d, err := datadir.Open(cfg.DataDir, true)
		if err != nil {
			t.Fatal(err)
		}
		id := datadir.Identity{State: state, Node: 5, Boot: 7, Reason: "the reason"}
		if state == datadir.Promised {
			id.Reason, id.Promise = "", &datadir.Promise{Proposer: 5, Members: []datadir.Founder{{Node: 5}, {Node: 6}}}
		}
		if err := errors.Join(d.WriteIdentity(id), d.Close()); err != nil {
			t.Fatal(err)
		}
		err = server.Run(t.Context(), cfg, zerolog.Nop(), nil)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), id.Reason) {
			t.Errorf("%s: %v", state, err)
		}
		if got, _, err := datadir.ReadIdentity(cfg.DataDir); err != nil || got.Boot != 7 || got.State != state {
			t.Errorf("%s: %+v %v", state, got, err)
		}
	}
}
