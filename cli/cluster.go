package cli

// clusterCmd is the group of commands about a cluster and its nodes.
type clusterCmd struct {
	Status   statusCmd             `cmd:"" help:"Show the nodes of a cluster, and how many voters may fail."`
	Add      addNodeCmd            `cmd:"" help:"Let a node join from an address; needed with cluster.admission: listed."`
	Promote  promoteCmd            `cmd:"" help:"Give a node a vote."`
	Demote   demoteCmd             `cmd:"" help:"Take a node's vote; it goes on to hold everything and to deliver."`
	Remove   removeCmd             `cmd:"" help:"Take a node out for good; its subscriptions go to the others first."`
	Transfer transferLeadershipCmd `cmd:"" name:"transfer-leadership" help:"Make another voter the leader."`
	Leave    leaveCmd              `cmd:"" help:"Take the node at --hub out for good; it hands over and ends. A restart needs no leave."`

	InitCA    initCACmd    `cmd:"" name:"init-ca" help:"Make the authority that signs the certificates of the nodes."`
	IssueCert issueCertCmd `cmd:"" help:"Make or renew the certificate of a node."`
}
