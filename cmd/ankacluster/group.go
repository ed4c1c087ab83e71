package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// groupCommand is about which nodes a start may ask for by one name.
func groupCommand() *cli.Command {
	return family("group", "list, create and delete groups of nodes, add and remove nodes",
		`ankacluster group COMMAND ... [--controllers URL,URL,…] [--context NAME]

A VM that is started for a group runs on one of its nodes. Groups and nodes are named
by their ids, their names, or the beginning of either that is of no other.

Example: ankacluster group add ios mac-7 mac-8`,
		cloudSub("list", "list the groups and their nodes", "group list [--json]", []cli.Flag{jsonFlag(), quietFlag("print names only")}, listGroups),
		cloudSub("create", "make a group", "group create NAME [--description TEXT] [--fallback GROUP]", []cli.Flag{
			&cli.StringFlag{Name: "description", Aliases: []string{"d"}, Usage: "say in `TEXT` what it is for"},
			&cli.StringFlag{Name: "fallback", Usage: "when it is full, VMs go to the nodes of `GROUP`"},
			jsonFlag(),
		}, createGroup),
		cloudSub("delete", "delete a group; its nodes stay in the cloud", "group delete GROUP --yes", yesFlag(), deleteGroup),
		cloudSub("add", "add nodes to a group", "group add GROUP NODE...", nil, func(c *cli.Context, cloud *clouds.Cloud) error {
			return changeGroup(c, cloud.AddToGroup, cloud, "added to")
		}),
		cloudSub("remove", "take nodes out of a group", "group remove GROUP NODE...", nil, func(c *cli.Context, cloud *clouds.Cloud) error {
			return changeGroup(c, cloud.RemoveFromGroup, cloud, "removed from")
		}))
}

// findGroup finds the group that a word names.
func findGroup(ctx context.Context, cloud *clouds.Cloud, word string) (clouds.Named, error) {
	list, err := cloud.Groups(ctx)
	if err != nil {
		return clouds.Named{}, err
	}
	all := make([]clouds.Named, len(list))
	for i, g := range list {
		all[i] = clouds.Named{ID: string(g.ID), Name: g.Name}
	}
	return clouds.Find("group", word, all)
}

func groupNamed(ctx context.Context, cloud *clouds.Cloud, word string) (controllerapi.GroupID, error) {
	g, err := findGroup(ctx, cloud, word)
	return controllerapi.GroupID(g.ID), err
}

func listGroups(c *cli.Context, cloud *clouds.Cloud) error {
	if err := want(c); err != nil {
		return err
	}
	groups, err := cloud.Groups(c.Context)
	switch {
	case err != nil:
		return err
	case c.Bool("json"):
		return printJSON(c.App.Writer, groups)
	case c.Bool("quiet"):
		names := make([]string, len(groups))
		for i, g := range groups {
			names[i] = g.Name
		}
		return printWords(c, names)
	case len(groups) == 0:
		return done(c, nil, "there is no group; ankacluster group create NAME makes one")
	}
	nodes, err := cloud.Nodes(c.Context)
	if err != nil {
		return err
	}
	members, names := make(map[controllerapi.GroupID]int), make(map[controllerapi.GroupID]string)
	for _, n := range nodes {
		for _, g := range n.Groups {
			members[g.ID]++
		}
	}
	for _, g := range groups {
		names[g.ID] = g.Name
	}
	t := newTable(c.App.Writer, "NAME", "NODES", "WHEN FULL", "DESCRIPTION")
	for _, g := range groups {
		fallback := ""
		if g.FallbackGroupID != nil {
			fallback = names[*g.FallbackGroupID]
		}
		t.add(g.Name, members[g.ID], fallback, g.Description)
	}
	return t.print()
}

func createGroup(c *cli.Context, cloud *clouds.Cloud) error {
	if err := want(c, "NAME"); err != nil {
		return err
	}
	var fallback controllerapi.GroupID
	if word := c.String("fallback"); word != "" {
		var err error
		if fallback, err = groupNamed(c.Context, cloud, word); err != nil {
			return err
		}
	}
	g, err := cloud.CreateGroup(c.Context, c.Args().First(), c.String("description"), fallback)
	if err != nil {
		return err
	}
	return done(c, g, "group %s is made; next: ankacluster group add %s NODE", g.Name, g.Name)
}

func deleteGroup(c *cli.Context, cloud *clouds.Cloud) error {
	if err := want(c, "GROUP"); err != nil {
		return err
	}
	g, err := findGroup(c.Context, cloud, c.Args().First())
	if err != nil {
		return err
	}
	if !c.Bool("yes") {
		return usagef("delete %s: repeat it with --yes, there is no way back", g.Name)
	}
	if err := cloud.DeleteGroup(c.Context, controllerapi.GroupID(g.ID)); err != nil {
		return err
	}
	return done(c, nil, "group %s is deleted", g.Name)
}

func changeGroup(c *cli.Context, change func(context.Context, controllerapi.GroupID, ...controllerapi.NodeID) error, cloud *clouds.Cloud, said string) error {
	if c.NArg() < 2 {
		return usagef("GROUP or NODE is missing; run '%s --help'", c.Command.HelpName)
	}
	g, err := findGroup(c.Context, cloud, c.Args().First())
	if err != nil {
		return err
	}
	var ids []controllerapi.NodeID
	for _, word := range c.Args().Tail() {
		n, err := nodeNamed(c.Context, cloud, word)
		if err != nil {
			return err
		}
		ids = append(ids, n.NodeID)
	}
	if err := change(c.Context, controllerapi.GroupID(g.ID), ids...); err != nil {
		return fmt.Errorf("group %s: %w", g.Name, err)
	}
	return done(c, nil, "%s %s group %s", count(len(ids), "node"), said, g.Name)
}
