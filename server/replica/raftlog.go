package replica

import (
	"fmt"
	"runtime"

	"github.com/rs/zerolog"
)

// raftPanic is the reason why raft gave up: a broken invariant, or a log that does not fit.
type raftPanic string

// recovered turns a panic of raft into an error: raft's own reason, or the error of the Log that
// raft could not read, or ErrOlder. Any other panic is a bug of ours and goes on.
func recovered(err *error) {
	switch p := recover().(type) {
	case nil:
	case raftPanic:
		*err = fmt.Errorf("replica: raft: %s", string(p))
	case runtime.Error:
		panic(p)
	case error:
		*err = fmt.Errorf("replica: %w", p)
	default:
		panic(p)
	}
}

// raftLogger writes raft's debug lines at trace level, its info lines at debug level, and its
// warnings and errors as such. Raft's Fatal and Panic panic with a raftPanic.
type raftLogger struct{ log zerolog.Logger }

func (l raftLogger) Debug(v ...any)              { l.log.Trace().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Debugf(f string, v ...any)   { l.log.Trace().Msgf(f, v...) }
func (l raftLogger) Info(v ...any)               { l.log.Debug().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any)    { l.log.Debug().Msgf(f, v...) }
func (l raftLogger) Warning(v ...any)            { l.log.Warn().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) { l.log.Warn().Msgf(f, v...) }
func (l raftLogger) Error(v ...any)              { l.log.Error().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any)   { l.log.Error().Msgf(f, v...) }
func (l raftLogger) Fatal(v ...any)              { panic(raftPanic(fmt.Sprint(v...))) }
func (l raftLogger) Fatalf(f string, v ...any)   { panic(raftPanic(fmt.Sprintf(f, v...))) }
func (l raftLogger) Panic(v ...any)              { panic(raftPanic(fmt.Sprint(v...))) }
func (l raftLogger) Panicf(f string, v ...any)   { panic(raftPanic(fmt.Sprintf(f, v...))) }
