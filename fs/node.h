/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_NODE_H
#define LUNFS_NODE_H

/*
 * The nodes of the tree and their inode numbers.  A node is a class, the id of
 * an object of that class, and a file of its directory; the three packed into
 * 64 bits are its inode number.  Ids are never used again, so there is no table
 * of inodes, nothing to count and nothing to forget, and a number stays the
 * same over restarts.  Pure functions.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/engine.h"
#include "engine/props.h"

/* The classes are those of the engine, and four more. */
enum node_class {
	NODE_CLASS_TOP = ENGINE_NONE,	    /* id 0; file: enum top_file */
	NODE_CLASS_WAIT = ENGINE_N_CLASSES, /* id of a group; file: a CopyState */
	NODE_CLASS_IMAGE_LINK, /* images/<source>: id of the target element */
	NODE_CLASS_CAPABILITY, /* id 1; file: enum capability_file */
	NODE_N_CLASSES,
};

/* How the content of a file behaves: engine/props.h. */
enum node_kind {
	NODE_KIND_STATE,
	NODE_KIND_PROGRESS,
	NODE_KIND_COUNTER,
	NODE_KIND_FIXED,
	NODE_KIND_LINK,
	NODE_KIND_NODE,
};

enum node_type {
	NODE_TYPE_DIR,
	NODE_TYPE_CTL,
	NODE_TYPE_LINK,
	NODE_TYPE_DATA,
	NODE_TYPE_WAIT,
};

/* The root directory, in the form of engine/props.h.  TOP_ROOT is the
 * directory itself: its inode number has to be 1 (FUSE_ROOT_ID). */
#define TOP_FILES(X)                                   \
	X(TOP_ROOT, "", NODE, r)                       \
	X(TOP_README, "README", FIXED, r)              \
	X(TOP_VERSION, "version", FIXED, r)            \
	X(TOP_STATUS, "status", PROGRESS, r)           \
	X(TOP_STATUS_JSON, "status.json", PROGRESS, r) \
	X(TOP_ELEMENTS, "elements", NODE, r)           \
	X(TOP_GROUPS, "groups", NODE, r)               \
	X(TOP_JOBS, "jobs", NODE, r)                   \
	X(TOP_POOLS, "pools", NODE, r)                 \
	X(TOP_CAPABILITIES, "capabilities", NODE, r)

enum top_file { TOP_FILES(PROPS_ENUM_) TOP_N_FILES };

enum {
	NODE_SELF = -1, /* as a file: the object's directory itself */
};

struct node {
	unsigned class;
	uint64_t id;
	int file; /* enum …_file, or NODE_SELF; NODE_CLASS_WAIT: a CopyState */
};

struct node_file {
	const char *name;
	enum node_kind kind;
	mode_t mode; /* 0444, 0644 or 0200 */
};

uint64_t node_ino(const struct node *node);

/* 0, or -ESTALE for a number that no node has. */
int node_from_ino(uint64_t ino, struct node *ret_node);

static inline struct node node_make(unsigned class, uint64_t id, int file)
{
	return (struct node){ .class = class, .id = id, .file = file };
}

static inline struct node node_top(enum top_file file)
{
	return node_make(NODE_CLASS_TOP, 0, (int)file);
}

/* Of no object of the engine: it is there as long as the mount is. */
static inline bool node_is_static(const struct node *node)
{
	return node->class == NODE_CLASS_TOP || node->class == NODE_CLASS_CAPABILITY;
}

/* The class whose files a directory holds. */
unsigned node_class_in(const struct node *dir);

/* The files of a class's directory (of the root: with TOP_ROOT); n is 0 for a
 * class that has none. */
const struct node_file *node_files(unsigned class, unsigned *ret_n);

/* The row of a node's file; NULL for a directory itself and for the classes
 * without a table. */
const struct node_file *node_file(const struct node *node);

/* The index of a name among the files of a class, or -ENOENT. */
int node_find_file(unsigned class, const char *name);

enum node_type node_type(const struct node *node);

/* The class of the objects that a directory of the root holds, or ENGINE_NONE. */
enum engine_class node_container_class(const struct node *node);

/* The directory of the root that holds the objects of a class (not of pairs). */
struct node node_container(enum engine_class class);

/* The CopyState that a name in wait/ means: the ValueMap name, exactly, or
 * without its blanks.  -ENOENT. */
int node_wait_state(const char *name);

/* The bits of ENGINE_EVENT_CHANGED that are files of one kind. */
uint64_t node_files_of_kind(enum engine_class class, enum node_kind kind);

#endif
