package server

import "errors"

// Why a server does not start or had to stop. cmd turns them into exit codes.
var (
	ErrConfig    = errors.New("bad configuration")           // 2
	ErrInUse     = errors.New("in use")                      // 17: the data folder or a port
	ErrDamaged   = errors.New("damaged data")                // 12
	ErrNewer     = errors.New("data of a newer coord")       // 14
	ErrZooKeeper = errors.New("a ZooKeeper data folder")     // 13
	ErrDiskFull  = errors.New("the disk is full")            // 11
	ErrFatalIO   = errors.New("a write or an fsync failed")  // 20
	ErrForeign   = errors.New("belongs to another cluster")  // 15
	ErrPermitted = errors.New("the folder is not permitted") // 6
)
