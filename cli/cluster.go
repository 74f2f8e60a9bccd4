package cli

// clusterCmd is the group of commands about a cluster and its nodes.
type clusterCmd struct {
	InitCA    initCACmd    `cmd:"" name:"init-ca" help:"Make the authority that signs the certificates of the nodes."`
	IssueCert issueCertCmd `cmd:"" help:"Make or renew the certificate of a node."`
}
