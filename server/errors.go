package server

import "errors"

// The reasons why a server does not start or had to stop. cmd turns each into the exit code beside
// it.
var (
	ErrConfig     = errors.New("bad configuration")          // 2
	ErrPermitted  = errors.New("not permitted")              // 6
	ErrDiskFull   = errors.New("the disk is full")           // 11
	ErrDamaged    = errors.New("damaged data")               // 12
	ErrZooKeeper  = errors.New("a ZooKeeper data folder")    // 13
	ErrNewer      = errors.New("data of a newer coord")      // 14
	ErrForeign    = errors.New("belongs to another cluster") // 15
	ErrInUse      = errors.New("in use")                     // 17: the data folder or a port
	ErrUnfinished = errors.New("an unfinished restore")      // 18
	ErrFatalIO    = errors.New("a write or fsync failed")    // 20
)

// failure is an error of one of these kinds whose own text needs no prefix.
type failure struct{ kind, err error }

func (f failure) Error() string   { return f.err.Error() }
func (f failure) Unwrap() []error { return []error{f.kind, f.err} }
