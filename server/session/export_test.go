package session

// Known is of how many sessions the keeper has a deadline.
func Known(k *Keeper) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.mu.sessions)
}

// Round is one of Run's.
func Round(k *Keeper) { k.expire() }
