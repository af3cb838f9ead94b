/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_STORE_H
#define LUNFS_STORE_H

/*
 * The state store: what must be the same after a restart, in SQLite
 * (`state_dir/lunfs.db`; WAL, foreign keys, synchronous=FULL).  Rows are plain
 * structs; the store knows how to keep them and nothing of what they mean.
 *
 * One thread at a time (the engine's).  Every change is made between
 * store_begin() and store_commit(); when commit has returned 0 it is durable.
 * The functions return 0 (or an id, or a count) or -errno (-ENOSPC, -EIO,
 * -EUCLEAN for a damaged database, -EEXIST for a name that is taken).  The
 * first error within a transaction sticks: later changes do nothing, commit
 * rolls back and returns it, so that callers test only the commit.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/name.h"

struct store;

enum { STORE_ID_LEN = 36 }; /* a UUID as text */

enum store_origin {
	STORE_ORIGIN_CONFIG = 1,  /* defined by the configuration */
	STORE_ORIGIN_USER = 2,	  /* mkdir elements/E */
	STORE_ORIGIN_REPLICA = 3, /* an image made by a relationship */
	STORE_ORIGIN_SPEC = 4,	  /* a LUN at an access point that a spec names */
};

/* Times are milliseconds since 1970, 0 = never. */

struct store_element {
	uint64_t id; /* never used again; 0 in an insert */
	char name[NAME_ELEMENT_MAX_LEN + 1];
	enum store_origin origin;
	const char *url; /* "" until written, and for images */
	const char *access_point; /* "" = none */
	bool exclusive;
	uint64_t pr_key; /* 0 = none made yet */
	/* The identity as last seen; size 0 = never seen. */
	uint64_t size;
	uint32_t block_size;
	const char *serial;
	const char *wwn;
	/* An image: its pool and whether the raw file is complete. */
	const char *pool;    /* "" = no image */
	uint64_t generation; /* of its map */
	bool complete;
	bool reserved;	/* thick: its space stays allocated */
	bool read_only; /* nobody writes it through LunFS */
	int64_t created;
	int64_t modified; /* last change of content through LunFS */
};

struct store_group {
	uint64_t id;
	char name[NAME_MAX_LEN + 1];
	bool persistent;
	bool delete_on_empty_element;
	bool delete_on_unassociated;
	int64_t created;
};

/* A group association (CIM_GroupSynchronized). */
struct store_relationship {
	uint64_t id;
	uint64_t group_id;	     /* the directory whose spec was written */
	char name[NAME_MAX_LEN + 1]; /* RelationshipName, unique */
	unsigned sync_type;
	unsigned mode;
	uint64_t source_group_id; /* one of the two; 0 = none */
	uint64_t source_element_id;
	unsigned consistency; /* as decided: enum cim_consistency */
	unsigned consistency_state;
	unsigned copy_priority;
	const char *setting; /* the properties of CIM_ReplicationSettingData that were
			      * given, as `Name=value` lines */
	uint64_t max_bytes_per_second; /* of its copies; 0 = no limit */
	bool digest; /* of each target, whenever its copy is complete */
	const char *spec; /* canonical text */
	const char *pool;
	uint64_t job_id; /* the newest; 0 = none */
	bool detaching;
	int64_t when_established, when_synced, when_synchronized, when_activated,
		when_deactivated, when_suspended;
	/* How others are kept from writing its shared members while they are copied
	 * (hold.h): enum config_shared_method, as the spec was accepted with. */
	unsigned shared_method;
	const char *quiesce_command, *thaw_command;
	int64_t when_held, when_thawed; /* of the newest instant */
	const char *thaw_error;         /* "" = none */
};

/* What is owed to a source's other users while its row is there: the thaw command,
 * or the release of reservations. */
struct store_hold {
	uint64_t id;
	uint64_t relationship_id; /* 0 = none yet, or none any more */
	unsigned method;          /* enum config_shared_method */
	const char *source_group; /* its name; "" = a single element */
	const char *members;      /* names, with blanks between */
	const char *elements;     /* ids of those that are reserved, the same */
	const char *thaw_command;
	int64_t began;
};

/* One source and one target of it (CIM_StorageSynchronized). */
struct store_pair {
	uint64_t id;
	uint64_t relationship_id;
	unsigned n;	    /* from 1, in member order */
	uint64_t source_id; /* elements */
	uint64_t target_id;
	unsigned copy_state; /* enum cim_copy_state */
	unsigned progress_status;
	int64_t when_synced;
	uint64_t point_id;     /* what the target is read from; 0 = none */
	uint64_t restore_sequence; /* of a restore of the source that is under way; 0 */
	bool written;          /* users have written to the target since the instant */
	uint64_t bytes_copied; /* as of the last state change */
	uint64_t bytes_skipped;
	const char *error;
};

/* A point in time of an element (chain.h), with a store in a pool. */
struct store_point {
	uint64_t id;
	uint64_t source_id; /* element */
	const char *pool;
	uint64_t size;     /* bytes */
	uint64_t sequence; /* rises with the instants; 0 = its instant was never there */
	int64_t created;
};

struct store_job {
	uint64_t id; /* jobs/N; rises for ever */
	const char *name;
	uint64_t group_id; /* 0 when the group is gone */
	unsigned state;	   /* enum cim_job_state */
	unsigned error_code;
	const char *error_description;
	int64_t start_time;
	int64_t elapsed_ms; /* when ended */
	int64_t last_state_change;
	bool delete_on_completion;
	int64_t time_before_removal_ms;			   /* -1 = job_retention */
	uint64_t bytes_total, bytes_copied, bytes_skipped; /* when ended */
};

/*
 * Opens or makes the store.  Takes the lock file of state_dir first: when
 * another process has it, -EBUSY and a sentence naming state_dir and its pid.
 * Makes state_dir (0700) if its parent is there.  Migrates an older schema; a
 * newer one is refused by a sentence.
 *
 * Call it in the process that uses the store, after the daemon has forked:
 * SQLite's locks do not survive a fork, and the lock file tells the pid.
 */
int store_open(const char *state_dir, struct store **ret_store, char *error,
	       size_t error_size);
void store_close(struct store *store); /* takes NULL */

/* The store's own id, made once: a UUID. */
const char *store_id(const struct store *store);

/*
 * The process begins to change elements: to be called before the rows are read.  If the
 * last one did not end with store_end_run(), it may have changed some after their
 * `modified` was written: all that LunFS can change count as modified now.  -errno.
 */
int store_begin_run(struct store *store, int64_t now_ms);
int store_end_run(struct store *store);

/* The first error of the last transaction that failed, as SQLite tells it. */
const char *store_error(const struct store *store);

/* The pid that holds the lock of state_dir, or 0. */
int store_lock_holder(const char *state_dir);

void store_begin(struct store *store);
int store_commit(struct store *store);
void store_rollback(struct store *store);

/*
 * After a commit has failed with -ENOSPC: gives the reserve of 16 MiB in
 * state_dir back to the file system, so that the transaction, if it is one that
 * must be written (invariant I5), can be made again.  A later commit makes the
 * reserve anew when there is space.
 */
void store_use_reserve(struct store *store);

/* Inserts return the new id (> 0) or -errno.  An update or a deletion of a row
 * that is not there is -ENOENT, and so is, at the commit, a reference to one. */
int64_t store_element_insert(struct store *s, const struct store_element *row);
int store_element_update(struct store *s, const struct store_element *row);
int store_element_delete(struct store *s, uint64_t id);
int64_t store_group_insert(struct store *s, const struct store_group *row);
int store_group_update(struct store *s, const struct store_group *row);
int store_group_delete(struct store *s, uint64_t id); /* with its members */
int store_members_set(struct store *s, uint64_t group_id, const uint64_t *element_ids,
		      size_t n); /* replaces the list, in order */
int64_t store_relationship_insert(struct store *s, const struct store_relationship *row);
int store_relationship_update(struct store *s, const struct store_relationship *row);
int store_relationship_delete(struct store *s, uint64_t id); /* with its pairs */
int64_t store_pair_insert(struct store *s, const struct store_pair *row);
int store_pair_update(struct store *s, const struct store_pair *row);
int64_t store_point_insert(struct store *s, const struct store_point *row);
int store_point_update(struct store *s, const struct store_point *row);
int store_point_delete(struct store *s, uint64_t id);
int64_t store_hold_insert(struct store *s, const struct store_hold *row);
int store_hold_update(struct store *s, const struct store_hold *row);
int store_hold_delete(struct store *s, uint64_t id);
int64_t store_job_insert(struct store *s, const struct store_job *row);
int store_job_update(struct store *s, const struct store_job *row);
int store_job_delete(struct store *s, uint64_t id);
/* Ids for pools, so that their inode numbers last: the id of that name, made
 * now if it is new (outside of a transaction: in one of its own). */
int64_t store_pool_id(struct store *s, const char *name);
/* The images and points in time that lie in the pool of that name, or -errno. */
int64_t store_pool_count(struct store *s, const char *name);

/* Reads, in order of id (pairs: relationship, n; members: position).  Strings
 * of a row live until the function returns.  A callback that returns non-zero
 * ends the reading with that value. */
int store_each_element(struct store *s,
		       int (*fn)(void *opaque, const struct store_element *row),
		       void *opaque);
int store_each_group(struct store *s,
		     int (*fn)(void *opaque, const struct store_group *row),
		     void *opaque);
int store_each_member(struct store *s,
		      int (*fn)(void *opaque, uint64_t group_id, uint64_t element_id),
		      void *opaque);
int store_each_relationship(struct store *s,
			    int (*fn)(void *opaque, const struct store_relationship *row),
			    void *opaque);
int store_each_pair(struct store *s,
		    int (*fn)(void *opaque, const struct store_pair *row), void *opaque);
int store_each_point(struct store *s,
		     int (*fn)(void *opaque, const struct store_point *row),
		     void *opaque);
int store_each_hold(struct store *s,
		    int (*fn)(void *opaque, const struct store_hold *row), void *opaque);
int store_each_job(struct store *s, int (*fn)(void *opaque, const struct store_job *row),
		   void *opaque);

#endif
