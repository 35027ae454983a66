package znode

// Mode is a create mode with ZooKeeper's flag numbers: an enumeration, not a
// set of bits.
type Mode int32

// The create modes.
const (
	Persistent              Mode = 0
	Ephemeral               Mode = 1
	PersistentSequential    Mode = 2
	EphemeralSequential     Mode = 3
	Container               Mode = 4
	PersistentTTL           Mode = 5
	PersistentSequentialTTL Mode = 6
)

// Valid says whether m is one of the modes.
func (m Mode) Valid() bool { return m >= Persistent && m <= PersistentSequentialTTL }

// Sequential says whether the parent's counter is appended to the name.
func (m Mode) Sequential() bool {
	return m == PersistentSequential || m == EphemeralSequential || m == PersistentSequentialTTL
}

// Ephemeral says whether the znode is deleted when its session ends.
func (m Mode) Ephemeral() bool { return m == Ephemeral || m == EphemeralSequential }

// TTL says whether the znode carries a time to live.
func (m Mode) TTL() bool { return m == PersistentTTL || m == PersistentSequentialTTL }
