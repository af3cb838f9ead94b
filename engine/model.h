/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_MODEL_H
#define LUNFS_MODEL_H

/*
 * The objects of the engine, private to it.
 *
 * The engine's thread is the only one that changes them, and does it with
 * engine->lock held; other threads may look while they hold it.  So the
 * engine's thread itself looks without the lock.  It never waits for a disk, a
 * LUN or a subscriber with the lock held.
 *
 * The way of a change (the one door):
 *   1. look, check, decide                           no lock
 *   2. store_begin() … store_commit()                no lock; durable now
 *   3. engine_lock(): change the objects             visible now
 *   4. engine_event() for what changed               told now
 *   5. answer the command
 *
 * Locks: engine->lock, then any lock of the data path (image, volume, …); the
 * queue's lock is a leaf.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "conf/cim.h"
#include "engine/blockdev.h"
#include "engine/bufpool.h"
#include "engine/checksum.h"
#include "engine/engine.h"
#include "engine/image.h"
#include "engine/index.h"
#include "engine/loop.h"
#include "engine/pool.h"
#include "engine/dataop.h"
#include "engine/store.h"
#include "engine/volume.h"
#include "engine/workers.h"

struct fence_set;
struct hold;
struct instant;
struct operation_call;
struct pair_digest;
struct restore;
struct relationship;
struct replica_call;
struct verify_call;

/* The first member of every object: its place in the indexes. */
struct object {
	enum engine_class class;
	uint64_t id;
	char name[NAME_ELEMENT_MAX_LEN + 1];
	struct engine_result result;
};

struct group_list {
	struct group **items;
	size_t n;
};

struct element {
	struct object obj;
	struct engine *engine;
	enum store_origin origin;
	bool configured; /* the configuration defines it now */
	char *url;	 /* "" until written */
	char *access_point;
	bool exclusive;
	uint64_t pr_key;
	unsigned io_timeout_ms;
	int64_t created_ms, modified_ms;

	/* Identity as recorded; size 0 = never seen. */
	uint64_t size;
	uint32_t block_size;
	char serial[253], wwn[260];

	/* A LUN or file. */
	struct volume *volume;
	struct blockdev *bd; /* opened and closed by the engine's thread */
	struct bd_info info;
	bool have_info;
	struct bd_status status; /* as of the last change */
	bool status_queued;	 /* atomic: a message is on its way */
	bool closing;		 /* its last device is not closed yet */
	uint64_t mapped;	 /* bytes of a thin one, once they are counted */
	bool mapped_known, mapped_scanning;
	bool outdated; /* the configuration has changed it and it was in use */
	bool reopen;   /* closing, to be opened anew */
	bool removing;
	char error[640]; /* of its own: "no longer configured" */

	/* An image.  While it is filled its files are open; a complete one is
	 * opened with its first handle and closed with its last.  Of a LUN that is a
	 * target, from its instant to the end of the relationship. */
	struct image *image;
	uint64_t allocated; /* bytes, of one whose files are not open */
	uint64_t change_count; /* of images that were closed */
	struct pool_object *pool;
	uint64_t generation;
	bool complete;
	bool reserved;	/* its space stays allocated */
	bool read_only; /* for users, as long as it is there; element_is_read_only() */

	/* Its points in time, in no order. */
	TAILQ_HEAD(, point_object) points;

	unsigned n_members; /* memberships in groups */
	unsigned n_source;  /* pairs, and calls under way, it is the source of */
	TAILQ_HEAD(, pair) source_of;
	struct pair *target_of; /* the pair it is the target of */
	struct replica_call
		*target_call; /* a spec that takes this LUN as a target; lock */

	bool write_through; /* write_cache = through */
	bool unsaved;	    /* modified_ms is not in the store yet */
	struct element *next_unsaved;

	/* Open handles. */
	unsigned n_handles;
	TAILQ_HEAD(engine_handles, engine_handle) handles;
	struct engine_handles own_handles; /* the engine's, which nobody is told of */
};

struct engine_handle {
	struct engine *engine;
	struct element *element; /* NULL once it was removed by force */
	pthread_mutex_t lock;	 /* of the next two */
	struct volume *volume;	 /* one of the two, with a reference */
	struct image *image;
	bool write; /* opened to write */
	bool own;   /* the engine's */
	unsigned io_timeout_ms;
	pid_t pid;
	TAILQ_ENTRY(engine_handle) link;
};

struct group {
	struct object obj;
	bool persistent, delete_on_empty_element, delete_on_unassociated;
	int64_t created_ms;
	struct element **members;
	size_t n_members;
	unsigned n_source; /* relationships it is the source group of */
	unsigned n_target; /* relationships, and calls under way, of other groups that it
			    * is the TargetGroup of */
	struct relationship *rel;
	struct replica_call *call; /* a spec that is not accepted yet */
	bool goes_when_unused;	   /* see group_goes_with() */

	/* For wait/: engine->sequence at the last time the state was entered
	 * (by CopyState), and at the last end of a relationship. */
	uint64_t entered[32];
	uint64_t ended;
	unsigned copy_state; /* derived, as last told */
	unsigned progress_status;
	unsigned percent;
};

struct pair {
	struct object obj; /* name: "1", "2", … */
	struct relationship *rel;
	unsigned n;
	struct element *source, *target;
	TAILQ_ENTRY(pair) link; /* source->source_of */
	unsigned copy_state, progress_status;
	int64_t when_synced;
	struct point_object *point; /* what the target is read from; NULL: none, or the
				     * source as it is */
	struct point *direct;       /* the latter; with a reference */
	uint64_t restore_sequence;  /* of a restore that is under way; 0 = none */
	struct restore *restore;    /* with a reference, while it is under way */
	struct engine_handle
		*restored_from;	    /* the engine's, of a complete target, meanwhile */
	bool restored;		    /* its end is to be recorded */
	uint64_t restored_bytes, restored_same; /* once it was: written, and not */
	bool written; /* users have written to the target since the instant */
	bool written_wanted; /* that could not be recorded yet */
	uint64_t bytes_copied, bytes_skipped; /* before this process's */
	char error[640];
	struct pair_digest *digest; /* of the target, under way; or NULL */
	/* The newest one, and the count of changes and the instant that it is of. */
	char digest_hex[CHECKSUM_HEX_SIZE]; /* "" = none */
	uint64_t digest_change_count;
	int64_t digest_instant;
	char *verified;	  /* what the newest Verify found, as text; NULL: there was none */
	unsigned percent; /* as last told */
	bool watched;	  /* the image has its source from this pair */
	unsigned epoch;	  /* rises when the image is cut off: news of before is old */
};

/* points.c */
struct point_object {
	struct object obj; /* no name */
	struct engine *engine;
	TAILQ_ENTRY(point_object) link; /* source->points */
	struct element *source;
	struct pool_object *pool; /* NULL: no longer configured */
	char pool_name[NAME_MAX_LEN + 1];
	uint64_t size, sequence;
	int64_t created_ms;
	unsigned n_pairs; /* that read it */
	bool linked, armed, handed;
	struct point *point; /* with a reference; NULL: its files cannot be used */
};

struct relationship {
	struct store_relationship row; /* its texts are owned copies, thaw_error
					* is that below */
	struct group *group;
	struct group *source_group;
	struct element *source_element;
	struct group *target_group; /* whose members the targets are; NULL: `group` */
	struct pair **pairs;
	size_t n_pairs;
	struct job *job;	       /* the newest, while it is there */
	struct engine_command *waiter; /* a spec write that waits for a CopyState */
	unsigned waits_for;	       /* that state */
	bool ended;		       /* relation_end() is at work */
	struct operation_call *op; /* an operation that takes an instant is under way */
	struct verify_call *verify; /* under way; or NULL */
	struct {
		unsigned n; /* under way */
		/* Of this job: the sizes of all, what those that ended have read, and the
		 * first error. */
		uint64_t bytes_total, bytes_done;
		int error;
		char reason[CHECKSUM_REASON_MAX];
	} digests;
	struct { /* how its job has ended, not recorded yet; the engine's thread only */
		unsigned state; /* 0: there is no such end */
		unsigned error_code;
		char error[512];
	} job_end;
	struct hold *hold; /* keeps others from writing the members; or NULL */
	struct priority_group *priority; /* of its copies; NULL: there was none yet */
	uint64_t rate;		   /* bytes per second, smoothed */
	uint64_t last_present;
	int64_t last_rate_ms;
	int64_t last_progress_ms;
	char waiting_for[640];
	char consistency_method[ENGINE_CONSISTENCY_MAX];
	char thaw_error[320];
};

struct job {
	struct object obj; /* name: "17" */
	char *title;
	uint64_t group_id;
	struct relationship *rel; /* NULL once ended */
	unsigned state;
	unsigned error_code;
	char *error_description;
	int64_t start_time, last_state_change, elapsed_ms;
	bool delete_on_completion;
	int64_t time_before_removal_ms; /* -1: see job_time_before_removal() */
	uint64_t bytes_total, bytes_copied, bytes_skipped; /* when ended */
};

struct pool_object {
	struct object obj;
	struct pool *pool;
	uint64_t total, free_space, reserved; /* as of the last second; engine->lock */
	uint64_t reserving; /* the tick's */
	bool refreshing;
	struct work refresh;
	struct engine *engine;
};

/* Something for the engine's thread to do. */
struct message {
	void (*fn)(struct engine *e, struct message *m);
	STAILQ_ENTRY(message) link;
};

struct engine {
	const struct config *config;   /* as at the start */
	const struct config *sections; /* the newest, but for [daemon]; the engine's
					* thread */
	struct store *store;
	struct bufpool *bufs;
	struct workers *workers;
	struct loop **loops;
	unsigned n_loops;
	struct dataops dataops;
	bool started;

	pthread_mutex_t lock; /* the objects */
	struct index by_id[ENGINE_N_CLASSES];
	struct index by_name[ENGINE_N_CLASSES];
	uint64_t sequence;
	unsigned n_handles;

	pthread_t thread;
	pthread_mutex_t queue_lock;
	pthread_cond_t queue_wakes;
	STAILQ_HEAD(, message) queue;
	bool quit;
	bool stopping;			  /* no command that would wait; queue_lock */
	unsigned n_closing;		  /* devices being closed; the engine's thread */
	TAILQ_HEAD(, replica_call) calls; /* specs under way; the engine's thread */
	TAILQ_HEAD(, replica_call) claims; /* the same, to their end */
	struct { /* images that were not made, whose rows are to be deleted still */
		uint64_t *ids;
		size_t n;
	} unmade;
	TAILQ_HEAD(, hold) holds;
	unsigned n_holds; /* atomic: those that a stop waits for */
	unsigned n_works; /* atomic: works that use objects, and end in a message */
	TAILQ_HEAD(, instant) instants;	  /* those with a closed fence; the same */
	TAILQ_HEAD(, fence_set) fence_sets;
	struct index points; /* by id; lock */
	uint64_t point_sequence;
	int64_t last_tick_ms;

	void (*subscriber)(void *opaque, const struct engine_event *event);
	void *subscriber_opaque;
};

/* engine.c */
void engine_post(struct engine *e, struct message *m);
void engine_event(struct engine *e, enum engine_event_kind kind, enum engine_class class,
		  uint64_t id, uint64_t files);
void engine_event_object(struct engine *e, enum engine_event_kind kind,
			 const struct object *obj, uint64_t parent, bool by_command);
/* A work that uses objects of the engine: a stop waits for the message that ends it,
 * whose function calls engine_work_done() first. */
void engine_start_work(struct engine *e, struct work *work);
void engine_work_done(struct engine *e);
bool engine_is_stopping(struct engine *e);
void engine_lock(struct engine *e);
void engine_unlock(struct engine *e);
#define FILE_BIT(file) (UINT64_C(1) << (file))

/* Adds to and takes from the indexes; the lock is held. */
int object_add(struct engine *e, struct object *obj);
void object_remove(struct engine *e, struct object *obj);
void *object_by_id(struct engine *e, enum engine_class class, uint64_t id);
void *object_by_name(struct engine *e, enum engine_class class, const char *name);
/* "nightly, prod": the names of a class, for a message; at most a few.
 * except: one that is left out, or NULL. */
void object_names(struct engine *e, enum engine_class class, const struct object *except,
		  char *buf, size_t size);

int engine_open_pool(struct engine *e, const struct config_pool *conf,
		     struct strbuf *errors);

/* command.c */
void command_run(struct engine *e, struct engine_command *cmd);
/* Notes the outcome as the directory's result, tells of it, answers. */
void command_answer(struct engine *e, struct engine_command *cmd);
/* The outcome of a command whose transaction failed with r (-errno). */
int command_store_failed(struct outcome *o, int r);

/* element.c */
struct element *element_new(struct engine *e, const struct store_element *row);
void element_free(void *element);
void element_row(const struct element *el, struct store_element *row);
int element_open(struct element *el); /* its device or its image files */
void element_close(struct element *el, bool release);
void element_create(struct engine *e, struct engine_command *cmd);
void element_remove(struct engine *e, struct engine_command *cmd);
void element_write(struct engine *e, struct engine_command *cmd);
bool element_in_relationship(const struct element *el);
/* Whether it takes requests now; if not, why, as a sentence. */
bool element_is_ready(const struct element *el, char *why, size_t size);
/* What the device complains of, without the name of the element before it. */
const char *element_device_error(const struct element *el);
uint64_t element_new_key(void);
/* Takes images that no row speaks of any more out of the objects, and their
 * files out of the pool in the background. */
void element_drop_image(struct engine *e, struct element *el, bool by_command);
int element_save(struct element *el);
int element_make_volume(struct element *el); /* unless it has one */
/* Its image has no instant any more: what it holds goes, its files stay. */
void element_empty_image(struct element *el);
void element_image_params(const struct element *el, struct image_params *ret);
/* The last change of its content; the lock is held. */
int64_t element_modified_ms(const struct element *el);
void element_note_changed(struct element *el); /* lock held */
/* Of what its users change in its image, as image_change_count(), also over its closing;
 * the lock is held. */
uint64_t element_change_count(const struct element *el);
/* Its image is about to be closed; the lock is held. */
void element_count_changes(struct element *el);
void elements_save_changed(struct engine *e);  /* the tick, and the stop */
/* data.c: open handles go to el->image from now on, those of a LUN without one to its
 * volume; the lock is held. */
void element_switch_handles(struct element *el);
/* A handle of the engine's own, to read; as engine_data_open().  Blocks. */
int element_open_data(struct engine *e, uint64_t element,
		      struct engine_handle **ret_handle);
/* -ENOENT, with its error: the file of an image that is complete has gone. */
int element_check_file(struct element *el);
/* Whether a complete image is open by a handle; the lock is held. */
bool element_needs_image(const struct element *el);
void element_set_error(struct element *el, const char *text);
/* Out of the store and the objects; nobody uses it. */
int element_delete(struct engine *e, struct element *el, bool by_command);
int element_open_device(struct element *el);
/* Gives a self-contained image a volume over its raw file, so that it can be a
 * source. */
int element_open_as_source(struct element *el);
void element_describe_handles(const struct element *el, char *buf, size_t size);

/* By what it was made with, or by the setting of the relationship it is the target of:
 * nobody opens it to write. */
bool element_is_read_only(const struct element *el);

/* Not an image in a pool, but a LUN or a file. */
static inline bool element_is_lun(const struct element *el)
{
	return el->origin != STORE_ORIGIN_REPLICA;
}

/* target.c: LUNs as targets */

/* The pool of its points, and of the map of a LUN; NULL: no longer configured. */
struct pool_object *pair_pool(const struct pair *p);
uint64_t pair_size(const struct pair *p); /* bytes that are copied */
/* The image over a LUN, where there is an instant; of other targets nothing.  Blocks. */
int pair_open_target(struct pair *p, char *error, size_t size);
/* The map of a LUN is needed no more, nor the digests of the generation before. */
void pair_remove_map(const struct pair *p);
/* The relationship ends: there is no ResyncReplica any more that would use them. */
void pair_remove_digests(const struct pair *p);
bool relation_has_luns(const struct relationship *rel); /* as targets: all, or none */
/* A LUN is no target any more; the lock is held.  Its image is the caller's. */
struct image *target_release_locked(struct element *el);

/* mapped.c: starts to count what a thin element has mapped */
void mapped_count(struct element *el);

/* points.c */
struct point_object *point_object_new(struct engine *e, const struct store_point *row);
void point_object_free(struct point_object *po); /* takes NULL; closes */
void point_object_row(const struct point_object *po, struct store_point *row);
struct point_object *point_object_by_id(struct engine *e, uint64_t id);
/* Opens its files; blocks.  Any thread, while nobody else has it. */
int point_object_open(struct point_object *po);
void point_object_close(struct point_object *po);
/* Into the objects; the lock is held. */
void point_object_link(struct point_object *po);
void point_object_arm(struct point_object *po); /* once */
/* A pair lets go of it, durably so already. */
void point_object_release(struct point_object *po);
void points_open_all(struct engine *e); /* at start, before any device is open */
void points_tick(struct engine *e);
/* Takes those of an element, whose rows are gone, out of the objects. */
void points_drop_of(struct engine *e, struct element *el);

/* group.c */
enum { GROUP_PERSISTENT_BY_DEFAULT = true };
struct group *group_new(const struct store_group *row);
void group_free(void *group);
void group_row(const struct group *g, struct store_group *row);
void group_create(struct engine *e, struct engine_command *cmd);
void group_remove(struct engine *e, struct engine_command *cmd);
void group_write(struct engine *e, struct engine_command *cmd);
/* Sets the list; lock held. */
int group_set_members(struct group *g, struct element **members, size_t n);
/*
 * What Persistent, DeleteOnEmptyElement and DeleteOnUnassociated do: a group goes with
 * the relationship that was its last, or with its last member, in the transaction that
 * ends that.
 */
/* Whether it goes, when rel ends and leaves it n_members.  If it would, but a spec under
 * way uses it, it goes if that fails: group_go_if_unused(). */
bool group_goes_with(struct group *g, const struct relationship *rel, size_t n_members);
void group_go_if_unused(struct engine *e, struct group *g);
/* Durable already: out of the objects, told, freed. */
void group_drop(struct engine *e, struct group *g, bool by_command);

/* replica.c: CreateGroupReplica */
void replica_write_spec(struct engine *e, struct engine_command *cmd);
void replica_interrupt(struct engine *e, struct engine_command *cmd);
/* The group whose call under way makes an image of that name; NULL = none does. */
const char *replica_claims_name(const struct engine *e, const char *name);
/* An element's state has changed, a second has passed, the engine stops: calls
 * that wait look again. */
void replica_run_calls(struct engine *e);
/* Deletes the rows of images that were not made, where that could not be done yet.  0 or
 * -errno: it is to be tried again. */
int replica_delete_unmade(struct engine *e);
/* The CopyState of a relationship has changed (or it ended): the write that
 * waits for one is answered if it is reached. */
void replica_check_waiter(struct engine *e, struct relationship *rel);

/* accesspoint.c: elements that a spec made at an access point (STORE_ORIGIN_SPEC) */
/* One that nothing uses: it goes.  The lock is held, or the engine's thread asks. */
bool accesspoint_is_left(const struct element *el);
void accesspoint_tick(struct engine *e);			/* all that are left go */
void accesspoint_release(struct engine *e, struct element *el); /* if it is left */
/* Whether the configuration says its URL still. */
bool accesspoint_is_same(const struct element *el, const struct config *c);
/* Takes the URL that it says now, of what is another LUN; -ENOENT: its access point is
 * gone, -ENOMEM.  The lock is held, or nobody else has the element. */
int accesspoint_follow(struct element *el, const struct config *c);
/* What is different, as the error of an element that cannot follow. */
void accesspoint_explain(const struct element *el, const struct config *c, char *buf,
			 size_t size);

/* relation*.c: group associations, their states, ModifyReplicaSynchronization */
struct relationship *relation_new(const struct store_relationship *row);
void relation_free(struct relationship *rel);
struct pair *pair_new(const struct store_pair *row);
void pair_free(struct pair *p);
/* With the image of its target, if that is open: that of a complete one is opened and
 * closed with its handles, by their threads. */
void pair_with_image(struct pair *p, void (*fn)(struct pair *p, struct image *image));
/* Its share of the point that is the source as it is, if it has one. */
void pair_drop_direct(struct pair *p);
/* The number that the setting of a relationship has for a property, or its default. */
unsigned relation_setting(const struct relationship *rel, const char *property);
/* What its copies make way for; NULL: out of memory. */
struct priority_group *relation_priority(struct relationship *rel);
/* CopyRecoveryMode: copying goes on by itself after a lost connection. */
bool relation_recovers_by_itself(const struct relationship *rel);
/* A device of it has logged in anew: else the copy is Suspended. */
void relation_link_repaired(struct engine *e, struct element *el);
/* Connects image, source and pair, and starts what its state asks for. */
void pair_attach(struct pair *p);
void pair_detach(struct pair *p);
/* Counts what the copy of the pair may still take of its pool. */
void pair_reserve(struct pair *p);
/* What pair_attach() does for an instant that is not visible yet: the image gets the
 * point (NULL: the source as it is) as its source.  Then, when it is visible, the copy
 * is started, or the pair breaks. */
void pair_connect(struct pair *p, struct image *image, struct point *point);
void pair_start(struct pair *p);
void relation_start_pairs(struct relationship *rel); /* all of them, after an instant */
/* Whether its target is read from its point now. */
bool pair_reads_point(const struct pair *p);
/* Whether an image that is not complete is read from its point in that state. */
bool pair_state_reads_point(unsigned sync_type, unsigned copy_state);
/* Whether the background copy is wanted: Unsynchronized, or a Snapshot that detaches. */
bool pair_is_copying(const struct pair *p);
/* As shown: Detaching, and Dormant while it is Suspended. */
unsigned pair_progress_status(const struct pair *p);
/* A write to an image counts in a settled state: Synchronized becomes Skewed. */
void pair_show_written(struct engine *e, struct pair *p);
/* Users have written to the target: recorded, then the writes go on. */
void pair_written(struct engine *e, struct pair *p);
/* The image of a complete target is open: its pair wants to know of writes. */
void pair_watch_complete(struct pair *p, struct image *image);
/*
 * A change of a relationship's states: begin copies what is, the caller changes
 * the copy, commit checks it against the table of transitions, writes the store,
 * then the objects, then tells.  The one door for CopyState and JobState.
 */
struct pair_draft {
	unsigned copy_state, progress_status;
	int64_t when_synced;
	bool written;
	uint64_t restore_sequence;
	struct point_object *point; /* another one, or NULL: the pair lets go of it */
	const char *error;	    /* NULL = as it is */
	bool complete;		    /* the target is self-contained from now on */
	uint64_t generation; /* of the target's map, which is new and empty; 0 = as it
			      * is */
};
struct draft {
	struct relationship *rel;
	struct store_relationship row;
	struct pair_draft *pairs;
	unsigned job_state; /* 0 = as it is */
	unsigned job_error_code;
	const char *job_error;
	const char *new_job; /* the method of a job that begins; or NULL */
	struct instant *instant; /* whose points get their sequence with it; or NULL */
	/* Both may be NULL.  It is durable, and not visible yet: the data path switches. */
	void (*durable)(struct draft *d);
	/* It becomes visible; the lock is held. */
	void (*visible)(struct draft *d);
};
int draft_begin(struct draft *d, struct relationship *rel);
/* Ends the draft.  -errno: nothing was changed. */
int draft_commit(struct engine *e, struct draft *d);
void draft_drop(struct draft *d);
/* Every pair gets its instant and begins to copy. */
/* Writes rel->consistency_method; the lock is held, or rel not visible. */
void relation_describe_consistency(struct relationship *rel);
void relation_set_instant(struct draft *d, int64_t now_ms);

/* For image_set_source(): posts what the image tells to the engine's thread. */
struct image_watcher pair_watcher(struct pair *p);
void relation_break(struct engine *e, struct pair *p, int error, const char *reason);
/* For a reason that is no single member's. */
void relation_break_all(struct engine *e, struct relationship *rel, int error,
			const char *reason);
/* What hold_may_complete() has put off. */
void relation_complete(struct engine *e, struct pair *p);
/* Ends a relationship; with images they go too.  0 or -errno (nothing ended). */
int relation_end(struct engine *e, struct relationship *rel, bool delete_images,
		 unsigned job_state);
unsigned relation_copy_state(const struct relationship *rel);
unsigned relation_progress_status(const struct relationship *rel);
void relation_progress(const struct relationship *rel, struct image_progress *ret);
/* Of what its job does. */
void relation_job_progress(const struct relationship *rel, struct image_progress *ret);
unsigned relation_job_percent(const struct relationship *rel);
void pair_progress(const struct pair *p, struct image_progress *ret);
unsigned pair_percent(const struct pair *p);
unsigned relation_percent(const struct relationship *rel);
void relation_tick(struct engine *e, struct relationship *rel, int64_t now_ms);
void relation_element_changed(struct engine *e, struct element *el);
/* Compares the derived states of the group with what was told last, and notes the new
 * ones, also for wait/; the lock is held.  The files that changed. */
uint64_t relation_note_locked(struct engine *e, struct relationship *rel);
/* The same, and tells of them.  files: what changed besides. */
void relation_tell(struct engine *e, struct relationship *rel, uint64_t files);

/* suspend.c: for jobs and for control.  0 or -errno: nothing was changed. */
/* Something is copied, or would be if it were not Suspended. */
bool relation_is_copying(const struct relationship *rel);
int relation_suspend(struct engine *e, struct relationship *rel);
/* The copiers run, or stand still, as the states of the pairs say. */
void relation_set_copiers(const struct relationship *rel);
int relation_resume(struct engine *e, struct relationship *rel);
/* why: the job's ErrorDescription. */
int relation_abort(struct engine *e, struct relationship *rel, unsigned job_state,
		   const char *why);

/* operation.c: ModifyReplicaSynchronization */
void operation_write(struct engine *e, struct engine_command *cmd);
/* Who has data of the sources, or of the images, open, for a sentence; false if nobody
 * has. */
bool relation_describe_open(struct engine *e, const struct relationship *rel,
			    bool of_sources, char *buf, size_t size);
/* operation_instant.c: takes a new instant for the relationship, in a job.  force: also
 * if images whose bytes it replaces are open when it comes.  0 or -errno: not begun. */
int operation_take_instant(struct engine *e, struct relationship *rel,
			   const char *method, bool force);
/* An operation is under way, or (NULL) no longer. */
void relation_set_op(struct engine *e, struct relationship *rel,
		     struct operation_call *call);
void operation_allowed(const struct relationship *rel, struct strbuf *b);

/* operation_restore.c: RestoreFromReplica, in a job.  force: also if sources are open
 * when it comes.  0 or -errno: not begun. */
int operation_start_restore(struct engine *e, struct relationship *rel, bool force);
bool relation_is_restoring(const struct relationship *rel);
/* Whether one that is under way reads what a point of its source holds. */
bool restore_needs_point(const struct point_object *po);
/* At start, before the points are opened: those stay. */
void pair_keep_for_restore(struct pair *p);
/* At start, before the source's device is open: goes on, or the source is in Error. */
void pair_resume_restore(struct pair *p);
/* The end of one whose end could not be recorded is recorded. */
void pair_record_restored(struct engine *e, struct pair *p);
/* At stop, when the source's device is closed. */
void pair_stop_restore(struct pair *p);
/* Of what the restores of a relationship copy back; the lock is held. */
void relation_restore_progress(const struct relationship *rel,
			       struct image_progress *ret_progress);

/* operation_verify.c: Verify, in a job.  0 or -errno: not begun. */
int operation_start_verify(struct engine *e, struct relationship *rel);
/* Records the end of one that is over, where that could not be done yet. */
void relation_record_verified(struct engine *e, struct relationship *rel);
/* The one that is under way ends without a result; its job is the caller's. */
void relation_stop_verify(struct relationship *rel);
/* Of the one that is under way; the lock is held, or by the engine's thread. */
void relation_verify_progress(const struct relationship *rel,
			      struct image_progress *ret_progress);
/* The same of one pair, as a text; the lock is held. */
void pair_describe_verified(const struct pair *p, struct strbuf *b);

/* pair_digest.c: the digest of a target, in a job. */
void pair_write(struct engine *e, struct engine_command *cmd);
/* The text of the file; the lock is held. */
void pair_describe_digest(const struct pair *p, struct strbuf *b);
/* One that is not of what the target holds any more goes, and that is told. */
void pair_check_digest(struct engine *e, struct pair *p);
/* Of all targets that are there, in one job. */
void relation_start_digests(struct engine *e, struct relationship *rel);
/* Those that are under way end without a result; their job is the caller's. */
void relation_stop_digests(struct relationship *rel);
/* Of those of the job that is under way; the lock is held, or by the engine's thread. */
void relation_digest_progress(const struct relationship *rel,
			      struct image_progress *ret_progress);
/* Its job only reads: a Verify, or digests. */
static inline bool relation_is_read(const struct relationship *rel)
{
	return rel->verify || rel->digests.n;
}
static inline void relation_stop_reading(struct relationship *rel)
{
	relation_stop_verify(rel);
	relation_stop_digests(rel);
}

/* job.c */
struct job *job_new(const struct store_job *row);
/* A new job of a relationship, durable and visible; the one before it, if it runs
 * still, is terminated.  -errno. */
int job_begin(struct engine *e, struct relationship *rel, const char *method);
/* The two halves of that, for a transaction of the caller's, which also stores *row;
 * the lock is held in the second.  old: the row of the one before, if it runs still. */
int job_insert(struct engine *e, struct relationship *rel, const char *method,
	       struct store_relationship *row, struct job **ret_job,
	       struct store_job *ret_old);
void job_link(struct engine *e, struct relationship *rel, struct job *job,
	      const struct store_job *old);
/* The row of a job that begins now; its name lives in title. */
void job_describe_new(const char *method, const char *relationship, char *title,
		      size_t size, struct store_job *row);
void job_free(void *job);
void job_row(const struct job *j, struct store_job *row);
void job_apply(struct job *j, const struct store_job *row); /* its states */
bool job_state_is_end(unsigned job_state);
bool job_is_over(const struct job *j);
/* Whether it was begun for that method. */
bool job_is_of(const struct job *j, const char *method);
/* The row of the relationship's job, which ends now; if it has ended already, and that is
 * not recorded yet, as it has. */
void job_end_row(const struct relationship *rel, unsigned job_state, unsigned error_code,
		 const char *error, struct store_job *row);
/* The relationship's job ends.  If that cannot be recorded, it runs on until it can be,
 * which is tried at each tick. */
void job_finish(struct engine *e, struct relationship *rel, unsigned job_state,
		unsigned error_code, const char *error);
/* Does so for one that could not be recorded yet. */
void job_finish_again(struct engine *e, struct relationship *rel);
/* What an event of a new state says. */
#define JOB_STATE_FILES                                               \
	(FILE_BIT(JOB_STATE) | FILE_BIT(JOB_PERCENT_COMPLETE) |       \
	 FILE_BIT(JOB_OPERATIONAL_STATUS) | FILE_BIT(JOB_ERROR_CODE) | \
	 FILE_BIT(JOB_ERROR_DESCRIPTION) |                            \
	 FILE_BIT(JOB_TIME_OF_LAST_STATE_CHANGE))
void job_write(struct engine *e, struct engine_command *cmd);
void job_drop(struct engine *e, struct job *j);
void job_tick(struct engine *e, int64_t now_ms);
int64_t job_time_before_removal(const struct engine *e, const struct job *j);

/* load.c */
/* An element takes what the configuration says of it (not durable yet). */
int load_update_configured(struct element *el, const struct config_element *conf);
/* Only what can change at any time: io_timeout, write_cache.  With the lock held. */
void load_update_io(struct element *el, const struct config_element *conf);
/* A new element of the configuration, durable; not in the indexes yet. */
int load_add_configured(struct engine *e, const struct config_element *conf,
			struct element **ret_element);
int load_state(struct engine *e, struct strbuf *errors);

#endif
