// Package clouds reaches build clouds from a person's machine: by a pool of controllers,
// so that one that dies is not noticed; by the names that people use; and by the stream
// of changes, which goes on at another controller.
//
//	err := clouds.Use(ctx, clouds.Config{Controllers: urls}, waits, func(ctx context.Context, c *clouds.Cloud) error {
//		for vms, err := range c.VMs(ctx) {
//			...
//		}
//	})
//
// Which cloud is meant, a File of contexts remembers.
package clouds
