"""Load balancing's control side: which members a pool has, whether they are well, and the tables that choose one."""
