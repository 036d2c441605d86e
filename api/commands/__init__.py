"""The commands of `assay`, one file each; imported only when they run."""
