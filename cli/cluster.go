package cli

// clusterCmd groups the commands for a cluster and its nodes.
type clusterCmd struct {
	Status   statusCmd             `cmd:"" help:"Show a cluster's nodes and how many voters may fail."`
	Add      addNodeCmd            `cmd:"" help:"Allow a node to join from an address; required with cluster.admission: listed."`
	Promote  promoteCmd            `cmd:"" help:"Make a non-voter a voter."`
	Demote   demoteCmd             `cmd:"" help:"Make a voter a non-voter, which still stores everything and delivers."`
	Drain    drainCmd              `cmd:"" help:"Let the other nodes deliver what a node does, such as before its maintenance."`
	Undrain  undrainCmd            `cmd:"" help:"Let a drained node deliver again."`
	Remove   removeCmd             `cmd:"" help:"Remove a node permanently, after moving its subscriptions to the others."`
	Transfer transferLeadershipCmd `cmd:"" name:"transfer-leadership" help:"Transfer leadership to another voter."`
	Leave    leaveCmd              `cmd:"" help:"Remove the node at --hub permanently; it hands over and exits. Not needed for a restart."`

	InitCA    initCACmd    `cmd:"" name:"init-ca" help:"Create the certificate authority of a cluster's nodes."`
	IssueCert issueCertCmd `cmd:"" help:"Issue or renew a node's certificate."`
}
