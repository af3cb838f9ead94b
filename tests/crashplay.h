/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_CRASHPLAY_H
#define LUNFS_TESTS_CRASHPLAY_H

/* What the parts of crashplay share; crashplay.c says what it does and what it takes a
 * crash to be.  It runs once and frees nothing; what goes wrong ends it (err.h). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/crashlog.h"

enum fs_model {
	FS_EXT4,  /* the sync of a file commits its name too */
	FS_POSIX, /* a name needs a sync of its directory */
};

enum play_mode { PLAY_NONE, PLAY_ALL, PLAY_RANDOM };

/* The names: as they were in memory while the log was written, and as they are after
 * the crash. */
enum names { NAMES_LIVE, NAMES_REBUILT, N_NAMES };

struct entry {
	struct entry *next;
	const char *name;
	struct object *object;
};

/* A change of metadata.  All of one domain are kept up to a cut, and none behind it. */
struct meta {
	struct meta *next;	     /* all, in order */
	struct meta *next_of_object; /* older */
	uint64_t n;		     /* record */
	const struct crashlog_record *record;
	struct object *object;
	struct object *domain; /* NULL: of no name that is left; kept */
	struct object *dir, *dir2;
	const char *name, *name2;
};

/* A change of a file's content or size, in order. */
struct op {
	struct op *next;
	uint64_t n;
	const struct crashlog_record *record;
	const struct meta *meta; /* NULL: a write */
	const unsigned char *data;
	uint64_t offset, size;
	bool durable; /* O_DSYNC */
};

/* An inode. */
struct object {
	struct object *next; /* all, in order of their appearance */
	unsigned index;	     /* from 1 */
	uint32_t mode;
	const char *root;      /* path, of a directory that was recorded */
	const char *base;      /* path when the log began; NULL: made since */
	const char *target;    /* of a symbolic link */
	struct object *top;    /* the root that it was first seen below */
	struct object *parent; /* live, of its newest name; NULL: a root, or no name */
	const char *name;
	struct entry *entries[N_NAMES]; /* of a directory */

	struct op *ops, *last_op;
	struct meta *metas; /* newest first */
	uint64_t synced; /* records before this one are durable, as far as its content */

	/* As a domain of metadata: */
	struct object *merged;	 /* into which */
	uint64_t committed;	 /* what stands up to this record is durable */
	uint64_t cut;		 /* what is kept */
	unsigned n_open, n_kept; /* random: behind committed */

	bool durable;	    /* a root: nothing below is lost */
	const char *placed; /* where it was written to */
};

struct play {
	const char *path;
	const unsigned char *map;
	size_t size;
	uint64_t n_records;
	const struct crashlog_record **records; /* [0] is record 1 */
	enum fs_model fs;

	struct object *objects, *last_object;
	struct meta *metas, *last_meta;
	uint64_t all_synced; /* by sync() */
	unsigned n_unseen;
};

/* Reads the log: its records only. */
void play_open(struct play *play, const char *path);
/* What the first n records mean.  on_sync(record number, path) may be NULL. */
void play_parse(struct play *play, uint64_t n,
		void (*on_sync)(uint64_t n, const char *path));

const char *record_path(const struct crashlog_record *r);
const char *record_path2(const struct crashlog_record *r);
const unsigned char *record_data(const struct crashlog_record *r);

struct object *object_domain(struct object *object);
struct entry *object_entry(struct object *dir, enum names names, const char *name);
void object_set_entry(struct object *dir, enum names names, const char *name,
		      struct object *object); /* NULL removes */
/* The live path, for messages; static memory. */
const char *object_path(const struct object *object);

struct build {
	enum play_mode mode;
	uint64_t seed;
	uint64_t n; /* the crash is behind this record */
	uint64_t sector;
	const char *from, *to;
};

/* Rebuilds the trees below to. */
void play_build(struct play *play, const struct build *build);

#endif
