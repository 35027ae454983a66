package replica

import (
	"fmt"

	"github.com/rs/zerolog"
)

// raftPanic is why raft gave up: a broken invariant, or a log that does not fit.
type raftPanic string

// raftLogger writes raft's own lines at debug level, its warnings as such.
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
