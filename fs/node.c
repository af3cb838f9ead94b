/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/node.h"

#include <errno.h>
#include <string.h>

#include "conf/cim.h"

/*
 * An inode number, from the top: the upper bit of the class, 44 bits id, 3 lower bits
 * of the class, 8 bits file.  The file is counted from 1, and 0 is the object's
 * directory.  The root is class 0, id 0, first file: 1, as FUSE wants it.
 */
enum {
	FILE_BITS = 8,
	CLASS_BITS = 3, /* the lower ones */
	ID_BITS = 44,
	CLASS_MASK = (1 << CLASS_BITS) - 1,
	UPPER_SHIFT = FILE_BITS + CLASS_BITS + ID_BITS,
};

_Static_assert(NODE_N_CLASSES <= 2 << CLASS_BITS, "a class does not fit");
_Static_assert(GROUP_N_FILES + 1 < 1 << FILE_BITS, "a file does not fit");
_Static_assert(GROUP_N_FILES <= 64 && ELEMENT_N_FILES <= 64 && JOB_N_FILES <= 64 &&
		       PAIR_N_FILES <= 64 && POOL_N_FILES <= 64,
	       "an event's mask has 64 bits");

#define MODE_r 0444
#define MODE_rw 0644
#define MODE_w 0200
#define ROW_(symbol, name, kind, mode) { name, NODE_KIND_##kind, MODE_##mode },

static const struct node_file top_files[] = { TOP_FILES(ROW_) };
static const struct node_file element_files[] = { ELEMENT_FILES(ROW_) };
static const struct node_file group_files[] = { GROUP_FILES(ROW_) };
static const struct node_file pair_files[] = { PAIR_FILES(ROW_) };
static const struct node_file job_files[] = { JOB_FILES(ROW_) };
static const struct node_file pool_files[] = { POOL_FILES(ROW_) };
static const struct node_file capability_files[] = { CAPABILITY_FILES(ROW_) };

static const struct {
	const struct node_file *files;
	unsigned n;
} tables[NODE_N_CLASSES] = {
	[NODE_CLASS_TOP] = { top_files, TOP_N_FILES },
	[ENGINE_ELEMENT] = { element_files, ELEMENT_N_FILES },
	[ENGINE_GROUP] = { group_files, GROUP_N_FILES },
	[ENGINE_PAIR] = { pair_files, PAIR_N_FILES },
	[ENGINE_JOB] = { job_files, JOB_N_FILES },
	[ENGINE_POOL] = { pool_files, POOL_N_FILES },
	[NODE_CLASS_CAPABILITY] = { capability_files, CAPABILITY_N_FILES },
};

uint64_t node_ino(const struct node *node)
{
	return (uint64_t)(node->class >> CLASS_BITS) << UPPER_SHIFT |
	       node->id << (CLASS_BITS + FILE_BITS) |
	       (uint64_t)(node->class & CLASS_MASK) << FILE_BITS |
	       (uint64_t)(node->file + 1);
}

static bool is_valid(const struct node *node)
{
	switch (node->class) {
	case NODE_CLASS_TOP:
		return !node->id && node->file >= 0 && node->file < TOP_N_FILES;
	case NODE_CLASS_WAIT:
		return node->id && *cim_name(&cim_copy_state, (unsigned)node->file);
	case NODE_CLASS_IMAGE_LINK:
		return node->id && node->file == NODE_SELF;
	case NODE_CLASS_CAPABILITY:
		return node->id == 1 && node->file >= 0 &&
		       node->file < CAPABILITY_N_FILES;
	default:
		return node->id && node->file < (int)tables[node->class].n;
	}
}

int node_from_ino(uint64_t ino, struct node *ret_node)
{
	uint64_t upper = ino >> UPPER_SHIFT;
	struct node node = {
		.class = ((unsigned)upper << CLASS_BITS) |
			 ((unsigned)(ino >> FILE_BITS) & CLASS_MASK),
		.id = (ino >> (CLASS_BITS + FILE_BITS)) & ((UINT64_C(1) << ID_BITS) - 1),
		.file = (int)(ino & ((1u << FILE_BITS) - 1)) - 1,
	};

	if (upper > 1 || node.class >= NODE_N_CLASSES || !is_valid(&node))
		return -ESTALE;
	*ret_node = node;
	return 0;
}

unsigned node_class_in(const struct node *dir)
{
	return dir->class == NODE_CLASS_TOP && dir->file == TOP_CAPABILITIES ?
		       NODE_CLASS_CAPABILITY :
		       dir->class;
}

const struct node_file *node_files(unsigned class, unsigned *ret_n)
{
	*ret_n = class < NODE_N_CLASSES ? tables[class].n : 0;
	return *ret_n ? tables[class].files : NULL;
}

const struct node_file *node_file(const struct node *node)
{
	if (node->class >= NODE_N_CLASSES || node->file < 0 ||
	    (unsigned)node->file >= tables[node->class].n)
		return NULL;
	return &tables[node->class].files[node->file];
}

int node_find_file(unsigned class, const char *name)
{
	unsigned n;
	const struct node_file *files = node_files(class, &n);

	for (unsigned i = 0; *name && i < n; i++)
		if (!strcmp(files[i].name, name))
			return (int)i;
	return -ENOENT;
}

enum node_type node_type(const struct node *node)
{
	const struct node_file *file = node_file(node);

	if (node->class == NODE_CLASS_WAIT)
		return NODE_TYPE_WAIT;
	if (node->class == NODE_CLASS_IMAGE_LINK)
		return NODE_TYPE_LINK;
	if (!file)
		return NODE_TYPE_DIR;
	switch (file->kind) {
	case NODE_KIND_LINK:
		return NODE_TYPE_LINK;
	case NODE_KIND_NODE:
		return node->class == ENGINE_ELEMENT ? NODE_TYPE_DATA : NODE_TYPE_DIR;
	default:
		return NODE_TYPE_CTL;
	}
}

static const struct {
	enum top_file dir;
	enum engine_class class;
} containers[] = {
	{ TOP_ELEMENTS, ENGINE_ELEMENT },
	{ TOP_GROUPS, ENGINE_GROUP },
	{ TOP_JOBS, ENGINE_JOB },
	{ TOP_POOLS, ENGINE_POOL },
};

enum engine_class node_container_class(const struct node *node)
{
	for (unsigned i = 0; i < sizeof(containers) / sizeof(containers[0]); i++)
		if (node->class == NODE_CLASS_TOP && node->file == (int)containers[i].dir)
			return containers[i].class;
	return ENGINE_NONE;
}

struct node node_container(enum engine_class class)
{
	for (unsigned i = 0; i < sizeof(containers) / sizeof(containers[0]); i++)
		if (containers[i].class == class)
			return node_top(containers[i].dir);
	return node_top(TOP_ROOT);
}

/* Whether b is a, or a without its blanks. */
static bool is_name(const char *a, const char *b)
{
	if (!strcmp(a, b))
		return true;
	for (; *a; a++)
		if (*a != ' ' && *a != *b++)
			return false;
	return !*b;
}

int node_wait_state(const char *name)
{
	for (size_t i = 0; i < cim_copy_state.n_values; i++)
		if (is_name(cim_copy_state.values[i].name, name))
			return (int)cim_copy_state.values[i].number;
	return -ENOENT;
}

uint64_t node_files_of_kind(enum engine_class class, enum node_kind kind)
{
	unsigned n;
	const struct node_file *files = node_files(class, &n);
	uint64_t mask = 0;

	for (unsigned i = 0; i < n; i++)
		if (files[i].kind == kind)
			mask |= UINT64_C(1) << i;
	return mask;
}
