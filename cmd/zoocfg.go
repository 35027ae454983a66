package cmd

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord/server"
)

// zooKey is a key of ZooKeeper's zoo.cfg. It may have the prefix "zookeeper.", as
// in ZooKeeper, where such keys are Java system properties.
type zooKey struct {
	name  string
	means string // as in docs/configuration.md
	// like names the equivalent setting of ours, or set applies the value. With
	// neither, the key has no meaning here: one warning names all such keys.
	like    string
	set     func(o *serverOptions, v string) error
	decides string              // the setting of ours, under another name, that set decides
	refused func(v string) bool // says whether the value asks for something that coord cannot do and must not ignore
	why     string              // what that is
}

func always(string) bool { return true }

func isTrue(v string) bool { return strings.EqualFold(v, "true") || strings.EqualFold(v, "yes") }

// zooKeys are the keys that have a meaning here, or that are refused.
var zooKeys = []zooKey{
	{name: "dataDir", means: "the data folder itself; one that holds ZooKeeper's version-2 is refused", like: "data-dir"},
	{name: "clientPort", means: "the port, on all addresses unless clientPortAddress is given"}, // see zooListen
	{name: "clientPortAddress", means: "the address to listen on with clientPort"},              // see zooListen
	{name: "maxClientCnxns", means: "connections from one address; 0: no limit", like: "max-client-conns"},
	{name: "autopurge.snapRetainCount", means: "snapshots that are kept", like: "snapshot-keep"},
	{name: "snapCount", means: "transactions from one snapshot to the next", set: func(o *serverOptions, v string) (err error) {
		o.SnapshotTxns, err = number(v)
		return err
	}},
	{name: "snapSizeLimitInKb", means: "KiB of log from one snapshot to the next; 0 and less: no limit", set: func(o *serverOptions, v string) error {
		n, err := strconv.ParseInt(v, 10, 42)
		if err != nil {
			return fmt.Errorf("%s is not a number", quote(v))
		}
		if o.SnapshotBytes = n << 10; n <= 0 {
			o.SnapshotBytes = math.MaxInt64
		}
		return nil
	}},
	{name: "4lw.commands.whitelist", means: "the four-letter words that are answered; `srvr` is one of them in any case, as in ZooKeeper", decides: "4lw-whitelist", set: setFourLetter},
	{name: "DigestAuthenticationProvider.superDigest", means: "the operator", like: "super-digest"},
	{name: "jute.maxbuffer", means: "bytes of the largest request, exactly", set: setMaxBuffer},
	{name: "tickTime", means: "ms; the session timeouts of ZooKeeper's clients are limited to two to twenty ticks",
		set: millis(func(o *serverOptions) *time.Duration { return &o.TickTime })},
	{name: "minSessionTimeout", means: "ms; the shortest of these timeouts; -1: two ticks",
		set: millisOrUnset(func(o *serverOptions) *time.Duration { return &o.MinSession })},
	{name: "maxSessionTimeout", means: "ms; the longest of them; -1: twenty ticks",
		set: millisOrUnset(func(o *serverOptions) *time.Duration { return &o.MaxSession })},
	{name: "reconfigEnabled", means: "whether reconfig is refused as not possible, or as switched off", set: yesNo(func(o *serverOptions, v bool) { o.ReconfigEnabled = v })},
	{name: "znode.container.checkIntervalMs", means: "how long a container stays empty before it is deleted; containers and TTL znodes are checked four times per interval, but at most four times and at least once per second", set: millis(func(o *serverOptions) *time.Duration { return &o.ContainerInterval })},
	{name: "enforceQuota", means: "whether hard quotas are enforced", set: yesNo(func(o *serverOptions, v bool) { o.Settings.EnforceQuota = v })},
	{name: "extendedTypesEnabled", means: "whether TTL znodes may be created", set: yesNo(func(o *serverOptions, v bool) { o.Settings.ExtendedTypes = v })},
	{name: "skipACL", means: "whether ACL checks are skipped", set: yesNo(func(o *serverOptions, v bool) { o.Settings.SkipACL = v })},

	// If these were ignored, coord would serve clients that the operator wants to keep out.
	{name: "secureClientPort", means: "refused: TLS is not supported yet", refused: always, why: "TLS is not supported yet"},
	{name: "sessionRequireClientSASLAuth", means: "true is refused: SASL is not supported yet", refused: isTrue, why: "SASL is not supported yet"},
	{name: "enforce.auth.enabled", means: "true is refused: enforced authentication is not supported yet", refused: isTrue, why: "enforced authentication is not supported yet"},

	{name: "server.N", means: "the nodes of the ensemble: `host:PEER:GOSSIP` and so on, see below"}, // see zooServers
	{name: "peerType", means: "observer: as `--observer`; the role in the node's server.N line wins", decides: "observer", set: func(o *serverOptions, v string) error {
		o.zoo.peerType = strings.ToLower(v)
		_, err := zooPeerType(v)
		return err
	}},
	{name: "syncLimit", means: "ticks of tickTime without a leader before clients are sent elsewhere", decides: "sync-limit", set: func(o *serverOptions, v string) (err error) {
		o.zoo.syncLimit, err = number(v)
		return err
	}},
	{name: "sslQuorum", means: "true is refused without `--peer-tls-cert`, `--peer-tls-key` and `--peer-tls-ca`, which enable it here", set: yesNo(func(o *serverOptions, v bool) { o.zoo.tls = v })},
	{name: "standaloneEnabled", means: "false: a node opens its ports for others even if it is alone", set: yesNo(func(o *serverOptions, v bool) { o.zoo.distributed = !v })},
	{name: "dynamicConfigFile", means: "refused: the log holds the members; copy its server.N lines here for the first start", refused: always,
		why: "the members are stored in the log, and changed with coord members: for the first start, copy the server.N lines of that file into this one"},
	{name: "group.N", means: "refused: each voter has one vote", refused: always, why: "each voter has one vote: hierarchical quorums are not supported"},
	{name: "weight.N", means: "refused: each voter has one vote", refused: always, why: "each voter has one vote: weights are not supported"},
}

// zooIgnored are ZooKeeper's keys that have no meaning here. A star stands for any
// rest of a name.
var zooIgnored = strings.Fields(`
	admin.* advancedFlowControlEnabled allowSaslFailedClients audit.enable audit.impl.class authProvider.*
	autopurge.purgeInterval bitHashCacheSize client.portUnification clientPortListenBacklog
	closeSessionTxn.enabled cnxTimeout commitLogCount commitProcessor.* connection_throttle_weight_enabled
	connectionDecreaseRatio connectionDropDecrease connectionDropIncrease connectionFreezeTime connectionMaxTokens
	connectionTokenFillCount connectionTokenFillTime connectToLearnerMasterLimit dataLogDir digest.enabled
	DigestAuthenticationProvider.digestAlg DigestAuthenticationProvider.enabled electionAlg electionPortBindRetry
	enableEagerACLCheck enforce.auth.schemes fastleader.maxNotificationInterval
	fastleader.minNotificationInterval fips-mode flushDelay follower.* forceSync fsync.warningthresholdms
	globalOutstandingLimit initialConfig initLimit IPAuthenticationProvider.usexforwardedfor jaasLoginRenew
	jmx.log4j.disable jute.maxbuffer.extrasize jvm.pause.* kerberos.* largeRequestMaxBytes largeRequestThreshold
	leader.* leaderServes learner.* localSessionsEnabled localSessionsUpgradingEnabled maxBatchSize maxCnxns
	maxConcurrentDiffSyncs maxConcurrentSnapSyncs maxGetChildrenResponseCacheSize maxInProcessingDeadWatchers
	maxResponseCacheSize maxWriteQueuePollTime metricsProvider.* minRequestThrottle
	multiAddress.* netty.* nio.* observer.* outstandingHandshake.limit portUnification
	preAllocSize quorum.auth.* quorum.cnxn.threads.size quorumListenOnAllIPs readonlymode.enabled
	readResponseCacheSize request_throttler.shutdownTimeout requestStaleConnectionCheck
	requestStaleLatencyCheck requestThrottleDropStale requestThrottleLimit requestThrottleStallTime
	secureClientPortAddress serverCnxnFactory
	snapshot.compression.method snapshot.trust.empty ssl.* sslQuorumReloadCertFiles superUser
	syncEnabled tcpKeepAlive throttledOpWaitTime txnLogSizeLimitInKb
	watcherCleanIntervalInSeconds watcherCleanThreadsNum watcherCleanThreshold watchManagerName
	X509AuthenticationProvider.superUser znode.container.maxNeverUsedIntervalMs znode.container.maxPerMinute
`)

// zooListen holds the keys that together decide where ZooKeeper listens.
type zooListen struct{ port, address string }

// addr is the address to listen on; empty if clientPort is not given.
func (z zooListen) addr() (string, error) {
	if z.port == "" {
		return "", nil
	}
	if _, err := portNumber(z.port); err != nil {
		return "", fmt.Errorf("clientPort %w", err)
	}
	addr := strings.Trim(z.address, "[]")
	if strings.ContainsAny(addr, " \t/") {
		return "", fmt.Errorf("clientPortAddress %s is not an address", quote(z.address))
	}
	if a, err := netip.ParseAddr(addr); err == nil && a.IsUnspecified() {
		addr = ""
	}
	return net.JoinHostPort(addr, z.port), nil
}

// setFourLetter adds srvr to the listed words: ZooKeeper always answers it, since
// zkServer.sh status uses it.
func setFourLetter(o *serverOptions, v string) error {
	err := settingNamed("4lw-whitelist").apply(o, []string{v})
	if err == nil && !slices.Contains(o.FourLetter, "srvr") && !slices.Contains(o.FourLetter, "*") {
		o.FourLetter = append(o.FourLetter, "srvr")
	}
	return err
}

func setMaxBuffer(o *serverOptions, v string) error {
	n, err := strconv.ParseInt(v, 0, 32) // Java also accepts 0x
	switch {
	case err != nil:
		return fmt.Errorf("%s is not a number of bytes", quote(v))
	case n > server.MaxMaxFrame:
		return fmt.Errorf("at most %d bytes are allowed here", server.MaxMaxFrame)
	}
	o.MaxFrame, o.ZooKeeperFrame = int(n), int(n)
	return nil
}

// millis makes a setter of a time in ms, at least 1.
func millis(field func(*serverOptions) *time.Duration) func(*serverOptions, string) error {
	return func(o *serverOptions, v string) error {
		n, err := number(v)
		if err == nil && n == 0 {
			err = fmt.Errorf("expected 1 or more")
		}
		*field(o) = time.Duration(n) * time.Millisecond
		return err
	}
}

// millisOrUnset is millis, with -1 for the default.
func millisOrUnset(field func(*serverOptions) *time.Duration) func(*serverOptions, string) error {
	set := millis(field)
	return func(o *serverOptions, v string) error {
		if v == "-1" {
			*field(o) = 0
			return nil
		}
		return set(o, v)
	}
}

// yesNo makes a setter of a Boolean; like ZooKeeper it also accepts yes and no.
func yesNo(set func(o *serverOptions, v bool)) func(*serverOptions, string) error {
	return func(o *serverOptions, v string) error {
		switch strings.ToLower(v) {
		case "true", "yes":
			set(o, true)
		case "false", "no":
			set(o, false)
		default:
			return fmt.Errorf("expected true or false")
		}
		return nil
	}
}

// zooKeyNamed finds a key of ZooKeeper's. A number at its end matches N.
func zooKeyNamed(name string) *zooKey {
	name = strings.TrimPrefix(name, "zookeeper.")
	if head, rest, ok := strings.Cut(name, "."); ok {
		if _, err := strconv.ParseUint(rest, 10, 63); err == nil {
			name = head + ".N"
		}
	}
	for i := range zooKeys {
		if zooKeys[i].name == name {
			return &zooKeys[i]
		}
	}
	return nil
}

func isZooIgnored(name string) bool {
	name = strings.TrimPrefix(name, "zookeeper.")
	for _, known := range zooIgnored {
		if prefix, star := strings.CutSuffix(known, "*"); name == known || star && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
