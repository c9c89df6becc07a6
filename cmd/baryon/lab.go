package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"baryon/internal/lab"
)

const labHelp = `Several nodes on this host: each node is a set of namespaces with its own Open vSwitch, /run/netns and agent, joined by an
underlay; guests are namespaces that run a real DHCP client.  Nothing of the lab shows in the host's own network but the API
on the loopback address.`

func labCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "lab", Short: "Run several nodes on this host", Long: labHelp}
	cmd.PersistentFlags().StringVar(&name, "name", "lab", "name of the lab")
	cmd.AddCommand(labUp(&name), labDown(&name), labStatus(&name), labExec(&name), labGuest(&name), labHold())
	return cmd
}

func labUp(name *string) *cobra.Command {
	var (
		nodes             int
		topology          string
		datapath          string
		api, id           string
		serverArgs, agent []string
	)
	cmd := &cobra.Command{
		Use: "up", Short: "Bring the lab up", Args: cobra.NoArgs,
		Example: "  baryon lab up --nodes 3\n  baryon lab up --topology docs/examples/two-twins.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := lab.NodesTopology(nodes)
			if topology != "" {
				var err error
				if t, err = lab.LoadTopology(topology); err != nil {
					return err
				}
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find own binary: %w", err)
			}
			l, err := lab.Up(cmd.Context(), lab.Config{
				Name: *name, Dir: lab.DefaultDir(*name), Exe: exe, Servers: []lab.ServerAddr{{API: api, Identity: id}},
				Topology: t, Datapath: datapath, ServerFlags: serverArgs, AgentFlags: agent, Out: cmd.ErrOrStderr(),
			})
			if err != nil {
				return err
			}
			printLabHelp(cmd, l)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&nodes, "nodes", 3, "number of nodes: ctl of role network, cmp1, cmp2, … of role compute")
	f.StringVar(&topology, "topology", "", "YAML file that declares nodes, networks and guests (see docs/lab.md)")
	f.StringVar(&datapath, "datapath", "", "datapath of the nodes' switches: system or netdev (default: system where the kernel module is there)")
	f.StringVar(&api, "api-listen", "127.0.0.1:9696", "loopback address of the networking API")
	f.StringVar(&id, "identity-listen", "127.0.0.1:5000", "loopback address of the identity API")
	f.StringArrayVar(&serverArgs, "server-flag", nil, "added to the server's flags, e.g. --server-flag=--log-level=debug")
	f.StringArrayVar(&agent, "agent-flag", nil, "added to every agent's flags")
	return cmd
}

func printLabHelp(cmd *cobra.Command, l *lab.Lab) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "The lab is up.\n\n")
	fmt.Fprintf(out, "  . %s                          # credentials for the openstack command\n", l.OpenRC())
	fmt.Fprintf(out, "  openstack network agent list\n")
	fmt.Fprintf(out, "  openstack network create net1\n")
	fmt.Fprintf(out, "  openstack subnet create --network net1 --subnet-range 200.0.0.0/24 sub1\n")
	node := l.Nodes()[len(l.Nodes())-1].Name
	fmt.Fprintf(out, "  baryon lab guest add vm1 --node %s --network net1\n", node)
	fmt.Fprintf(out, "  baryon lab guest exec vm1 -- ip address\n")
	fmt.Fprintf(out, "  baryon lab exec %s -- ovs-vsctl show\n", node)
	fmt.Fprintf(out, "  baryon lab down\n")
}

func openLab(ctx context.Context, name string) (*lab.Lab, error) {
	l, err := lab.Open(ctx, lab.DefaultDir(name))
	if errors.Is(err, lab.ErrNoLab) {
		return nil, fmt.Errorf("no lab %s is up; bring one up with: baryon lab up", name)
	}
	return l, err
}

func labDown(name *string) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the lab and remove everything of it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab(cmd.Context(), *name)
			if err != nil {
				return err
			}
			return l.Down(cmd.Context())
		},
	}
}

func labStatus(name *string) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show nodes, services and guests", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab(cmd.Context(), *name)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NODE\tROLES\tTUNNEL IP\tSERVICES")
			for _, n := range l.Status(cmd.Context()) {
				var services []string
				for _, s := range n.Services {
					state := fmt.Sprintf("up %s", time.Since(s.Since).Round(time.Second))
					if !s.Running {
						state = s.Exit
					}
					services = append(services, fmt.Sprintf("%s (%s)", s.Name, state))
				}
				if !n.Alive {
					services = []string{"node is down"}
				}
				ip := ""
				if n.TunnelIP.IsValid() {
					ip = n.TunnelIP.String()
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, strings.Join(n.Roles, ","), ip, strings.Join(services, ", "))
			}
			if guests := l.Guests(); len(guests) > 0 {
				fmt.Fprintln(w, "\nGUEST\tNODE\tNETWORK\tPORT\tMAC")
				for _, g := range guests {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", g.Name, g.Node, g.Network, g.PortID, g.MAC)
				}
			}
			return w.Flush()
		},
	}
}

func labExec(name *string) *cobra.Command {
	return &cobra.Command{
		Use: "exec NODE -- COMMAND [ARG]...", Short: "Run a command on a node", Args: cobra.MinimumNArgs(2),
		Example: "  baryon lab exec cmp1 -- ovs-vsctl show\n  baryon lab exec ctl -- ip netns",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(cmd.Context(), *name)
			if err != nil {
				return err
			}
			c, err := l.Command(cmd.Context(), args[0], args[1:]...)
			if err != nil {
				return err
			}
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			return passExit(c.Run())
		},
	}
}

func labGuest(name *string) *cobra.Command {
	cmd := &cobra.Command{Use: "guest", Short: "Add, remove and enter guests"}
	var g lab.Guest
	var noWait bool
	add := &cobra.Command{
		Use: "add NAME", Short: "Make a port and a guest on it", Args: cobra.ExactArgs(1),
		Example: "  baryon lab guest add vm1 --node cmp1 --network net1",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(cmd.Context(), *name)
			if err != nil {
				return err
			}
			g.Name = args[0]
			info, err := l.AddGuest(cmd.Context(), g)
			if err != nil {
				return err
			}
			ip := ""
			if !noWait {
				ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
				defer cancel()
				if err := l.WaitActive(ctx, g.Name); err != nil {
					return err
				}
				if g.Client != lab.ClientNone {
					if ip, err = l.WaitLease(ctx, g.Name); err != nil {
						return err
					}
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: port %s on %s, mac %s, address %s\n", g.Name, info.PortID, g.Node, info.MAC, ip)
			return nil
		},
	}
	f := add.Flags()
	f.StringVar(&g.Node, "node", "", "node that the guest runs on")
	f.StringVar(&g.Network, "network", "", "network that the guest is plugged into")
	f.StringVar(&g.Plug, "plug", "", "direct or hybrid; by default as the port's binding says")
	f.StringVar(&g.Client, "client", lab.ClientUDHCPC, "DHCP client: udhcpc, dhclient, dhclient6 or none")
	f.StringVar(&g.FixedIP, "fixed-ip", "", "address that the port shall have")
	f.BoolVar(&noWait, "no-wait", false, "do not wait for the port and the lease")
	for _, required := range []string{"node", "network"} {
		if err := add.MarkFlagRequired(required); err != nil {
			panic(err) // only for a flag that is not defined above
		}
	}
	rm := &cobra.Command{
		Use: "rm NAME", Short: "Remove a guest and its port", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(cmd.Context(), *name)
			if err != nil {
				return err
			}
			return l.RemoveGuest(cmd.Context(), args[0])
		},
	}
	exec := &cobra.Command{
		Use: "exec NAME -- COMMAND [ARG]...", Short: "Run a command in a guest", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(cmd.Context(), *name)
			if err != nil {
				return err
			}
			c, err := l.GuestCommand(cmd.Context(), args[0], args[1:]...)
			if err != nil {
				return err
			}
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			return passExit(c.Run())
		},
	}
	cmd.AddCommand(add, rm, exec)
	return cmd
}

// labHold is a node's first process; the lab itself starts it.
func labHold() *cobra.Command {
	return &cobra.Command{
		Use: "hold SPEC", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var spec lab.HolderSpec
			if err := json.Unmarshal([]byte(args[0]), &spec); err != nil {
				return fmt.Errorf("read holder spec: %w", err)
			}
			return lab.Hold(cmd.Context(), spec)
		},
	}
}
