/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_ENGINE_H
#define LUNFS_ENGINE_H

/*
 * The engine, as its users see it: objects (elements, groups, pairs, jobs,
 * pools) that are looked at, commands that change them, data, and events.
 *
 * Looking takes one lock for a moment and waits for no disk, LUN or command:
 * any thread, at any time between engine_new() and engine_free().
 * Commands are carried out one after another by the engine's own thread, which
 * is the only one that changes objects: it makes each change durable in the
 * state store first, then visible, then tells of it (event), then answers.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/config.h"
#include "conf/outcome.h"
#include "conf/strbuf.h"
#include "engine/props.h"

struct engine;
struct loop;

/* ---- life ---------------------------------------------------------------- */

/*
 * Opens state store and pools, reads the state, checks it against the
 * configuration.  In the foreground, before the fork: starts no thread.
 * `mountpoint`: absolute, for messages.  config must outlive the engine.  0, or
 * -errno with one or more sentences, a line each, in *ret_error (to be freed).
 */
int engine_new(const struct config *config, struct engine **ret_engine,
	       char **ret_error);

/* Starts the threads, the logins and the copies that were under way.  -errno. */
int engine_start(struct engine *engine);

/* After engine_start(), until engine_free(): the loops that carry requests out. */
struct loop *const *engine_loops(const struct engine *engine, unsigned *ret_n);

/*
 * Ends: commands and data requests under way are answered (-ENOTCONN for what
 * would have to wait), copies stop where they are, everything is made durable,
 * reservations of elements that are in no relationship are released, threads
 * end.  Blocks, a few seconds at most.  Looking stays possible until
 * engine_free().  Elements that stay reserved are named in still_reserved, a
 * line each.
 */
void engine_stop(struct engine *engine, struct strbuf *still_reserved);
void engine_free(struct engine *engine); /* takes NULL */

/*
 * Takes over a configuration that was read again (all but [daemon]), and owns
 * it from then on.  What was done and what was not, a line each, in report.
 * Waits for the engine's thread.  -ENOTCONN when it does not run.
 */
int engine_reload(struct engine *engine, struct config *config, struct strbuf *report);

/* ---- objects ------------------------------------------------------------- */

enum engine_class {
	ENGINE_NONE,
	ENGINE_ELEMENT,
	ENGINE_GROUP,
	ENGINE_PAIR,
	ENGINE_JOB,
	ENGINE_POOL,
	ENGINE_N_CLASSES,
};

/* Ids are unique within a class, never used again, the same after a restart,
 * below 2^44, and 0 is none.  Parent: the group of pairs and images, else 0. */

/* The id of an object by its name (pairs: "1", "2", …; jobs: "17"), or 0. */
uint64_t engine_find(struct engine *e, enum engine_class class, uint64_t parent,
		     const char *name);
bool engine_exists(struct engine *e, enum engine_class class, uint64_t id);

/* Calls fn for each object of a class (pairs: of that group), in order of id,
 * with the engine's lock held: fn only notes what it is told. */
void engine_list(struct engine *e, enum engine_class class, uint64_t parent,
		 void (*fn)(void *opaque, const char *name, uint64_t id), void *opaque);

/* The entries of groups/G/images: for each target element fn(name, id, NULL),
 * and beside it fn(source's name, id, name) for the symlink, where that name is
 * not taken and stands for one image only. */
void engine_list_images(struct engine *e, uint64_t group,
			void (*fn)(void *opaque, const char *name, uint64_t element,
				   const char *link_to),
			void *opaque);

/* The outcome of the newest write in a directory. */
struct engine_result {
	struct outcome outcome;
	int64_t when_ms; /* 0 = there was none */
	pid_t pid;
};

struct element_info {
	uint64_t id;
	char name[NAME_ELEMENT_MAX_LEN + 1];
	bool configured; /* defined by the configuration */
	bool is_image;
	bool exclusive;
	bool reserved;
	bool known;      /* the fields from size to thin have been read */
	uint64_t size, allocated;
	uint32_t block_size;
	char vendor[9], product[17], revision[5], serial[253], wwn[260];
	bool thin;
	bool self_contained; /* an image that is complete: has `backing` */
	bool read_only;	     /* nobody opens its data to write, whatever the mode */
	unsigned operational_status; /* enum cim_operational_status */
	char error[640];
	char url[4200];
	char backing[4200]; /* absolute path of the raw file; "" = none */
	int64_t created_ms, modified_ms;
	unsigned io_timeout_ms;
	struct engine_result result;
};

enum { ENGINE_CONSISTENCY_MAX = 1024 };

struct group_info {
	uint64_t id;
	char name[NAME_MAX_LEN + 1];
	bool persistent, delete_on_empty_element, delete_on_unassociated;
	int64_t created_ms;
	struct engine_result result;

	/* The rest is the relationship's; copy_state is CIM_COPY_NOT_APPLICABLE
	 * and the others are 0 or "" without one. */
	bool has_relationship;
	char relationship_name[NAME_MAX_LEN + 1];
	unsigned sync_type, mode, copy_state, requested_copy_state, progress_status;
	unsigned percent_synced;
	bool sync_maintained;
	unsigned consistency, consistency_state, consistency_status;
	bool consistency_enabled;
	unsigned copy_priority, copy_recovery_mode;
	bool failed_copy_stops_host_io;
	int64_t when_established, when_synced, when_synchronized, when_activated,
		when_deactivated, when_suspended; /* ms since 1970; 0 = NULL */
	char consistency_method[ENGINE_CONSISTENCY_MAX]; /* the file `consistency` */
	char waiting_for[640];        /* "" = nothing is waited for */
	int64_t last_progress;        /* ms since 1970; 0 = none yet */
	char source[64]; /* link target: "../prod" or "../../elements/db0"; "" */
	uint64_t job;    /* the newest job that is still there; 0 */
	uint64_t bytes_total, bytes_copied, bytes_skipped, bytes_per_second;
	int64_t seconds_left; /* -1 = unknown */
	/* What its job does with a replica that is there already ("Restoring"), "" =
	 * nothing, and how far that is. */
	char doing[16];
	unsigned doing_percent;
};

struct pair_info {
	uint64_t id, group;
	unsigned n;
	char source[NAME_ELEMENT_MAX_LEN + 1], target[NAME_ELEMENT_MAX_LEN + 1];
	unsigned copy_state, progress_status, percent_synced, sync_state, copy_type,
		replica_type, copy_methodology;
	int64_t when_synced;
	uint64_t bytes_total, bytes_copied, bytes_skipped;
	char error[640];
	struct engine_result result;
};

struct job_info {
	uint64_t id;
	char name[96];
	unsigned state; /* enum cim_job_state */
	unsigned percent_complete;
	unsigned operational_status[2]; /* enum cim_operational_status; 0 = none */
	unsigned error_code;
	char error_description[640];
	int64_t start_time, last_state_change; /* ms since 1970 */
	int64_t elapsed_ms, time_before_removal_ms;
	bool delete_on_completion;
	uint64_t bytes_total, bytes_copied, bytes_skipped, bytes_per_second;
	int64_t seconds_left; /* -1 = unknown */
	char group[NAME_MAX_LEN + 1]; /* "" = gone */
	struct engine_result result;
};

struct pool_info {
	uint64_t id;
	char name[NAME_MAX_LEN + 1];
	const char *path; /* lives as long as the engine */
	uint64_t total, remaining, reserved; /* bytes, as of the last second */
};

/* 0, or -ENOENT for an object that is gone. */
int engine_element_info(struct engine *e, uint64_t id, struct element_info *ret);
int engine_group_info(struct engine *e, uint64_t id, struct group_info *ret);
int engine_pair_info(struct engine *e, uint64_t id, struct pair_info *ret);
int engine_job_info(struct engine *e, uint64_t id, struct job_info *ret);
int engine_pool_info(struct engine *e, uint64_t id, struct pool_info *ret);

/*
 * The text of a list or of the canonical spec, a line an item, appended to b:
 * GROUP_SPEC, GROUP_MEMBERS, GROUP_CONTROL (the operations allowed now),
 * GROUP_RELATIONSHIPS; ELEMENT_SESSIONS, ELEMENT_GROUPS, ELEMENT_RELATIONSHIPS;
 * PAIR_VERIFIED (what Verify found), PAIR_MAP, PAIR_DIGEST; POOL_IMAGES.  0 or -ENOENT.
 */
int engine_list_text(struct engine *e, enum engine_class class, uint64_t id,
		     unsigned file, struct strbuf *b);

/* The text of a file of capabilities/: what is supported.  It never changes. */
void engine_capability_text(enum capability_file file, struct strbuf *b);

/* What df shows: the default pool, or the sum of all. */
void engine_space(struct engine *e, uint64_t *ret_total, uint64_t *ret_free);

/* ---- commands ------------------------------------------------------------ */

enum engine_verb {
	ENGINE_CREATE, /* mkdir: class ELEMENT or GROUP, name */
	ENGINE_REMOVE, /* rmdir: class ELEMENT or GROUP, id */
	ENGINE_WRITE,  /* one write: class, id, file, text */
};

struct engine_command {
	/* Set by the caller. */
	enum engine_verb verb;
	enum engine_class class;
	uint64_t id;
	const char *name;
	unsigned file;	  /* enum element_file, group_file, pair_file, job_file */
	const char *text; /* as written, any bytes; lives until done */
	size_t len;
	bool append;      /* GROUP_MEMBERS: add to the list instead of replacing it
			   * (O_APPEND, or not the first write of its open) */
	/* GROUP_SPEC: go on waiting for the call that this open made before, if
	 * the text is the same; EINVAL if it is another. */
	bool again;
	pid_t pid;
	/* Called once, by a thread of the engine with no lock held; the command
	 * is the caller's again. */
	void (*done)(struct engine_command *cmd);
	void *opaque;

	/* Set when done is called. */
	struct outcome outcome;
	uint64_t new_id; /* ENGINE_CREATE */

	/* The engine's. */
	struct engine *engine;
	struct engine_command *next;
	void *priv;
};

void engine_submit(struct engine *e, struct engine_command *cmd);

/* The writer was interrupted: a command that is still waiting (for a login or a
 * CopyState) is answered soon with EINTR; what it started goes on. */
void engine_interrupt(struct engine *e, struct engine_command *cmd);

/* Notes an outcome that was found before a command could be submitted (E2BIG)
 * as the directory's result. */
void engine_note_result(struct engine *e, enum engine_class class, uint64_t id,
			const struct outcome *outcome, pid_t pid);

/* ---- wait/ ---------------------------------------------------------------- */

/* Rises with every change of a CopyState: what an open notes. */
uint64_t engine_sequence(struct engine *e);

/*
 * Whether a read of wait/<state> by an open of that time is to be answered: 1
 * reached, 0 not yet (ask again at the group's next event), -EIO (Broken or
 * Aborted, or the relationship ended), -ENODEV the group is gone.
 */
int engine_wait_check(struct engine *e, uint64_t group, unsigned state, uint64_t since);

/* ---- events --------------------------------------------------------------- */

enum engine_event_kind {
	ENGINE_EVENT_CREATED,
	ENGINE_EVENT_REMOVED,
	ENGINE_EVENT_CHANGED, /* `files` of it */
	ENGINE_EVENT_CONTENT, /* bytes or size of an element's data changed other
			       * than by a write through it: drop cached pages and
			       * attributes */
};

struct engine_event {
	enum engine_event_kind kind;
	enum engine_class class;
	uint64_t id;
	uint64_t parent;  /* of a pair: its group */
	uint64_t files;   /* 1 << enum …_file */
	bool by_command;  /* REMOVED: by a user's rmdir, which the kernel knows of */
	char name[NAME_ELEMENT_MAX_LEN + 1];
};

/* One subscriber, set before engine_start().  Called by the engine's threads
 * with no lock held, in the order of the changes; must not block. */
void engine_subscribe(struct engine *e,
		      void (*fn)(void *opaque, const struct engine_event *event),
		      void *opaque);

/* ---- data ----------------------------------------------------------------- */

/* An open file of an element's data: counted, with its opener's pid, for what
 * answers In Use. */
struct engine_handle;

/* 0; -ENOENT; for writing -EROFS: an element that is `shared`, or a device that is
 * read-only, or an image that was made so; -EBUSY: a spec is about to overwrite it. */
int engine_data_open(struct engine *e, uint64_t element, bool write, pid_t pid,
		     struct engine_handle **ret_handle);
void engine_data_close(struct engine_handle *handle);

/* One line for each element with open handles: name, number, a pid.  The number
 * of lines. */
unsigned engine_open_handles(struct engine *e, struct strbuf *b);

/*
 * Reads what can be read at once and without waiting (a complete image whose
 * bytes the page cache has).  The bytes read (fewer than len only at the end of
 * the element), or -EAGAIN: use engine_data_submit().
 */
ssize_t engine_data_try_read(struct engine_handle *handle, void *buf, size_t len,
			     uint64_t offset);

enum { ENGINE_IO_MAX = 1 << 20 }; /* bytes of one read or write */

enum engine_io_op {
	ENGINE_IO_READ,
	ENGINE_IO_WRITE,
	ENGINE_IO_ZERO,      /* the range reads as zeros; unmapped where it can be */
	ENGINE_IO_FLUSH,     /* what was answered before is durable after */
	ENGINE_IO_SEEK_DATA, /* lseek(2): from offset on, the place in `result` */
	ENGINE_IO_SEEK_HOLE,
};

/*
 * A request for data.  Any offset and length.  Overlapping changes (WRITE, ZERO) of
 * an element are carried out one after another, in the order of submission; all
 * else runs in parallel.  A change that was answered with an error may have been
 * carried out, in part or whole.
 */
struct engine_io {
	/* Set by the caller. */
	enum engine_io_op op;
	struct engine_handle *handle; /* stays open until done */
	uint64_t offset;
	uint64_t len;     /* bytes; READ and WRITE: at most ENGINE_IO_MAX; ZERO: any,
			   * cut at the end of the element; else 0 */
	const void *data; /* WRITE: copied before engine_data_submit() returns */
	/*
	 * Called once, by any thread, also from within engine_data_submit(), with
	 * no lock held.  error: 0, or
	 *   -EIO       device, pool, or no answer within io_timeout
	 *   -ENOSPC    WRITE from the end on; ZERO past the end; the pool is full
	 *   -EROFS     the element is (by now) not to be written
	 *   -ENXIO     SEEK_…: there is none from offset on
	 *   -ENOTCONN  the engine stops
	 * READ: buf has n bytes (fewer than len only at the end); it is the
	 * engine's and gone when done returns.  WRITE: n bytes were written (fewer
	 * only at the end), buf is NULL.  Else n is 0.
	 */
	void (*done)(struct engine_io *io, int error, const void *buf, size_t n);
	void *opaque;

	/* Set when done is called. */
	uint64_t result; /* SEEK_… */

	/* The engine's. */
	struct engine_io *next;
	bool own; /* it is a request of its own: no copy makes way for it */
};

void engine_data_submit(struct engine_io *io);

#endif
