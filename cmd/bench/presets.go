package bench

import (
	"slices"
	"time"
)

// Default is the load without any flags.
func Default() Load {
	return Load{
		Name: "default", Clients: 16, Outstanding: 64, Mix: Mix{opGet: 70, opSet: 30}, Size: 100, Keys: 1000, Multi: 3,
		Warmup: time.Second, Duration: 5 * time.Second, Hold: 2 * time.Second,
	}
}

// Presets are the named loads, in the order in which they are reported.
func Presets() []Load {
	preset := func(name string, change func(*Load)) Load {
		l := Default()
		l.Name = name
		change(&l)
		return l
	}
	one := func(o op) Mix {
		var m Mix
		m[o] = 100
		return m
	}
	return []Load{
		preset("set", func(l *Load) { l.Mix = one(opSet) }),
		preset("set-1k", func(l *Load) { l.Mix, l.Size = one(opSet), 1000 }),
		preset("create", func(l *Load) { l.Mix = one(opCreate) }),
		preset("get", func(l *Load) { l.Mix = one(opGet) }),
		preset("mixed", func(*Load) {}),
		preset("set-64x1", func(l *Load) { l.Mix, l.Clients, l.Outstanding = one(opSet), 64, 1 }),
		preset("set-1x1", func(l *Load) { l.Mix, l.Clients, l.Outstanding = one(opSet), 1, 1 }),
		preset("get-1x1", func(l *Load) { l.Mix, l.Clients, l.Outstanding = one(opGet), 1, 1 }),
		preset("paced", func(l *Load) { l.Mix, l.Rate = one(opSet), 2000 }),
		preset("sessions", func(l *Load) { l.Sessions, l.Clients = 1000, atATime }),
		preset("fanout-1000", func(l *Load) { l.Watchers = 1000 }),
		preset("fanout-5000", func(l *Load) { l.Watchers = 5000 }),
	}
}

// PresetNames are the names of Presets.
func PresetNames() (names []string) {
	for _, l := range Presets() {
		names = append(names, l.Name)
	}
	return names
}

// Preset finds a preset by its name.
func Preset(name string) (Load, bool) {
	all := Presets()
	i := slices.IndexFunc(all, func(l Load) bool { return l.Name == name })
	if i < 0 {
		return Load{}, false
	}
	return all[i], true
}
