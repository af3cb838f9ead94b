/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/tree.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "conf/cim.h"
#include "conf/timefmt.h"
#include "fs/content.h"

enum {
	BLOCK_SIZE = 4096,
	MODE_DIR = 0755,
	MODE_LINK = 0777,
	MODE_WAIT = 0444,
};

/* How long the kernel may keep a name that cannot change, and attributes. */
#define FOREVER 86400.0
#define SHORT 1.0

static bool is_file_of(const struct node *node, unsigned class, int file)
{
	return node->class == class && node->file == file;
}

/* ---- names ------------------------------------------------------------------- */

struct image_search {
	const char *name;
	struct node *node;
	bool found;
};

static struct node image_node(uint64_t element, const char *link_to)
{
	return link_to ? node_make(NODE_CLASS_IMAGE_LINK, element, NODE_SELF) :
			 node_make(ENGINE_ELEMENT, element, ELEMENT_DATA);
}

static void match_image(void *opaque, const char *name, uint64_t element,
			const char *link_to)
{
	struct image_search *search = opaque;

	if (search->found || strcmp(name, search->name))
		return;
	*search->node = image_node(element, link_to);
	search->found = true;
}

static int lookup_object(struct fs *fs, enum engine_class class, uint64_t parent,
			 const char *name, struct node *ret_node)
{
	uint64_t id = engine_find(fs->engine, class, parent, name);

	if (!id)
		return -ENOENT;
	*ret_node = node_make(class, id, NODE_SELF);
	return 0;
}

static int lookup_in_group_dir(struct fs *fs, const struct node *dir, const char *name,
			       struct node *ret_node)
{
	struct image_search search = { .name = name, .node = ret_node };
	int state;

	switch (dir->file) {
	case GROUP_PAIRS:
		return lookup_object(fs, ENGINE_PAIR, dir->id, name, ret_node);
	case GROUP_IMAGES:
		engine_list_images(fs->engine, dir->id, match_image, &search);
		return search.found ? 0 : -ENOENT;
	default:
		state = node_wait_state(name);
		if (state < 0)
			return state;
		*ret_node = node_make(NODE_CLASS_WAIT, dir->id, state);
		return 0;
	}
}

static bool is_subdir_of_group(const struct node *dir)
{
	return dir->class == ENGINE_GROUP && dir->file != NODE_SELF;
}

/* A file of a directory, by its index. */
static struct node file_in(const struct node *dir, int file)
{
	unsigned class = node_class_in(dir);

	return node_make(class, class == NODE_CLASS_CAPABILITY ? 1 : dir->id, file);
}

int tree_lookup(struct fs *fs, const struct node *dir, const char *name,
		struct node *ret_node, bool *ret_is_fixed)
{
	enum engine_class class = node_container_class(dir);
	int file;

	if (node_type(dir) != NODE_TYPE_DIR)
		return -ENOTDIR;
	*ret_is_fixed = false;
	if (class)
		return lookup_object(fs, class, 0, name, ret_node);
	if (is_subdir_of_group(dir)) {
		*ret_is_fixed = dir->file == GROUP_WAIT;
		return lookup_in_group_dir(fs, dir, name, ret_node);
	}
	file = node_find_file(node_class_in(dir), name);
	if (file < 0)
		return file;
	*ret_node = file_in(dir, file);
	*ret_is_fixed = node_type(ret_node) != NODE_TYPE_LINK;
	return 0;
}

/* ---- lists ------------------------------------------------------------------- */

struct lister {
	unsigned class;
	void (*fn)(void *opaque, const char *name, const struct node *node);
	void *opaque;
};

static void list_object(void *opaque, const char *name, uint64_t id)
{
	struct lister *l = opaque;
	struct node node = node_make(l->class, id, NODE_SELF);

	l->fn(l->opaque, name, &node);
}

static void list_image(void *opaque, const char *name, uint64_t element,
		       const char *link_to)
{
	struct lister *l = opaque;
	struct node node = image_node(element, link_to);

	l->fn(l->opaque, name, &node);
}

static bool link_exists(struct fs *fs, const struct node *node)
{
	CLEANUP_STRBUF struct strbuf target = STRBUF_INIT;
	int64_t time_ms;

	return content_link(fs, node, &target, &time_ms) >= 0;
}

static void list_files(struct fs *fs, const struct node *dir, const struct lister *l)
{
	unsigned n;
	const struct node_file *files = node_files(node_class_in(dir), &n);

	for (unsigned i = 0; i < n; i++) {
		struct node node = file_in(dir, (int)i);

		if (!*files[i].name)
			continue;
		if (files[i].kind == NODE_KIND_LINK && !link_exists(fs, &node))
			continue;
		l->fn(l->opaque, files[i].name, &node);
	}
}

static bool exists(struct fs *fs, const struct node *node)
{
	return node_is_static(node) || engine_exists(fs->engine, node->class, node->id);
}

int tree_list(struct fs *fs, const struct node *dir,
	      void (*fn)(void *opaque, const char *name, const struct node *node),
	      void *opaque)
{
	struct lister l = { .fn = fn, .opaque = opaque };

	if (!exists(fs, dir))
		return -ENOENT;
	l.class = node_container_class(dir);
	if (l.class) {
		engine_list(fs->engine, l.class, 0, list_object, &l);
	} else if (is_file_of(dir, ENGINE_GROUP, GROUP_PAIRS)) {
		l.class = ENGINE_PAIR;
		engine_list(fs->engine, ENGINE_PAIR, dir->id, list_object, &l);
	} else if (is_file_of(dir, ENGINE_GROUP, GROUP_IMAGES)) {
		engine_list_images(fs->engine, dir->id, list_image, &l);
	} else if (!is_file_of(dir, ENGINE_GROUP, GROUP_WAIT)) {
		list_files(fs, dir, &l);
	}
	return 0;
}

struct node tree_parent(struct fs *fs, const struct node *dir)
{
	struct pair_info pair;

	if (dir->class == NODE_CLASS_TOP)
		return node_top(TOP_ROOT);
	if (dir->file != NODE_SELF)
		return node_make(dir->class, dir->id, NODE_SELF);
	if (dir->class != ENGINE_PAIR)
		return node_container(dir->class);
	if (engine_pair_info(fs->engine, dir->id, &pair))
		return node_top(TOP_ROOT);
	return node_make(ENGINE_GROUP, pair.group, GROUP_PAIRS);
}

/* "/groups/NAME" */
static int object_path(struct fs *fs, const struct node *node, struct strbuf *b)
{
	union {
		struct element_info element;
		struct group_info group;
		struct pair_info pair;
		struct pool_info pool;
	} info;
	struct node group;
	unsigned n;
	int r;

	switch (node->class) {
	case ENGINE_ELEMENT:
		r = engine_element_info(fs->engine, node->id, &info.element);
		if (!r)
			strbuf_addf(b, "/elements/%s", info.element.name);
		return r;
	case ENGINE_GROUP:
		r = engine_group_info(fs->engine, node->id, &info.group);
		if (!r)
			strbuf_addf(b, "/groups/%s", info.group.name);
		return r;
	case ENGINE_PAIR:
		r = engine_pair_info(fs->engine, node->id, &info.pair);
		if (r < 0)
			return r;
		n = info.pair.n;
		group = node_make(ENGINE_GROUP, info.pair.group, NODE_SELF);
		r = object_path(fs, &group, b);
		strbuf_addf(b, "/pairs/%u", n);
		return r;
	case ENGINE_JOB:
		strbuf_addf(b, "/jobs/%" PRIu64, node->id);
		return 0;
	case ENGINE_POOL:
		r = engine_pool_info(fs->engine, node->id, &info.pool);
		if (!r)
			strbuf_addf(b, "/pools/%s", info.pool.name);
		return r;
	case NODE_CLASS_CAPABILITY:
		strbuf_adds(b, "/capabilities");
		return 0;
	default:
		return 0;
	}
}

int tree_path(struct fs *fs, const struct node *node, struct strbuf *b)
{
	const struct node_file *file = node_file(node);
	int r;

	if (!file)
		return -ENOENT;
	strbuf_adds(b, fs->mountpoint);
	r = object_path(fs, node, b);
	if (r < 0)
		return r;
	strbuf_addf(b, "/%s", file->name);
	return b->failed ? -ENOMEM : 0;
}

/* ---- attributes -------------------------------------------------------------- */

void tree_mode(const struct fs *fs, const struct node *node, struct stat *ret_st)
{
	*ret_st = (struct stat){
		.st_ino = node_ino(node),
		.st_uid = fs->config->daemon.user,
		.st_gid = fs->config->daemon.group,
		.st_nlink = 1,
		.st_blksize = BLOCK_SIZE,
	};
	switch (node_type(node)) {
	case NODE_TYPE_DIR:
		ret_st->st_mode = S_IFDIR | MODE_DIR;
		return;
	case NODE_TYPE_LINK:
		ret_st->st_mode = S_IFLNK | MODE_LINK;
		return;
	case NODE_TYPE_DATA:
		ret_st->st_mode = S_IFREG | fs->config->daemon.mode;
		return;
	case NODE_TYPE_WAIT:
		ret_st->st_mode = S_IFREG | MODE_WAIT;
		return;
	case NODE_TYPE_CTL:
		ret_st->st_mode = S_IFREG | node_file(node)->mode;
		return;
	}
}

static void set_size(struct stat *st, uint64_t size)
{
	st->st_size = (off_t)size;
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
}

static void set_times(struct stat *st, int64_t unix_ms)
{
	struct timespec ts = {
		.tv_sec = unix_ms / 1000,
		.tv_nsec = unix_ms % 1000 * 1000000,
	};

	st->st_mtim = ts;
	st->st_ctim = ts;
	st->st_atim = ts;
}

/* Since when an object is there; -ENOENT if it is not. */
static int object_time(struct fs *fs, const struct node *node, int64_t *ret_time_ms)
{
	union {
		struct element_info element;
		struct group_info group;
		struct job_info job;
	} info;
	int r = 0;

	switch (node->class) {
	case ENGINE_ELEMENT:
		r = engine_element_info(fs->engine, node->id, &info.element);
		if (!r)
			*ret_time_ms = info.element.created_ms;
		return r;
	case ENGINE_GROUP:
		r = engine_group_info(fs->engine, node->id, &info.group);
		if (!r)
			*ret_time_ms = info.group.created_ms;
		return r;
	case ENGINE_JOB:
		r = engine_job_info(fs->engine, node->id, &info.job);
		if (!r)
			*ret_time_ms = info.job.start_time;
		return r;
	default:
		*ret_time_ms = fs->start_ms;
		return exists(fs, node) ? 0 : -ENOENT;
	}
}

/* Directories that hold objects say 1, "not counted" (as those of btrfs do):
 * counting them would walk a list at each stat. */
static nlink_t dir_links(const struct node *node)
{
	if (is_file_of(node, NODE_CLASS_TOP, TOP_ROOT))
		return 2 + 5; /* elements, groups, jobs, pools, capabilities */
	if (is_file_of(node, NODE_CLASS_TOP, TOP_CAPABILITIES))
		return 2;
	if (is_file_of(node, ENGINE_GROUP, NODE_SELF))
		return 2 + 3; /* pairs, images, wait */
	if (node->file == NODE_SELF || is_file_of(node, ENGINE_GROUP, GROUP_WAIT) ||
	    is_file_of(node, ENGINE_GROUP, GROUP_IMAGES))
		return 2;
	return 1;
}

static int dir_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	int64_t time_ms;
	int r = object_time(fs, node, &time_ms);

	if (r < 0)
		return r;
	st->st_nlink = dir_links(node);
	set_times(st, time_ms);
	return 0;
}

/* The text of a link has no newline to count, that of a file is what it is. */
static int text_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	CLEANUP_STRBUF struct strbuf text = STRBUF_INIT;
	int64_t time_ms;
	int r;

	r = node_type(node) == NODE_TYPE_LINK ? content_link(fs, node, &text, &time_ms) :
						content_get(fs, node, &text, &time_ms);
	if (r < 0)
		return r;
	set_size(st, text.len);
	set_times(st, time_ms);
	return 0;
}

static int wait_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	struct node group = node_make(ENGINE_GROUP, node->id, NODE_SELF);
	int64_t time_ms;
	int r = object_time(fs, &group, &time_ms);

	if (r < 0)
		return r;
	set_size(st, strlen(cim_name(&cim_copy_state, (unsigned)node->file)) + 1);
	set_times(st, time_ms);
	return 0;
}

/* Never none: GNU tar -S takes a file without blocks for one hole, and does not look.
 * But what is read through an image is in no block of its own, and what was written a
 * moment ago in none that was counted. */
static blkcnt_t data_blocks(const struct element_info *info)
{
	return info->allocated > 512 ? (blkcnt_t)((info->allocated + 511) / 512) :
	       info->size	     ? 1 :
				       0;
}

/* A `shared` element is written by others unseen, so its time is now. */
static int data_attr(struct fs *fs, const struct node *node, struct stat *st,
		     double *ret_timeout)
{
	struct element_info info;
	int r = engine_element_info(fs->engine, node->id, &info);

	if (r < 0)
		return r;
	if (info.read_only)
		st->st_mode &= ~(mode_t)0222;
	st->st_nlink = info.is_image ? 2 : 1;
	st->st_size = info.known ? (off_t)info.size : 0;
	st->st_blocks = info.known ? data_blocks(&info) : 0;
	set_times(st, info.exclusive ? info.modified_ms : timefmt_now_ms());
	*ret_timeout = info.exclusive && info.known ? SHORT : 0;
	return 0;
}

int tree_attr(struct fs *fs, const struct node *node, struct stat *ret_st,
	      double *ret_timeout)
{
	struct stat st;
	double timeout = 0;
	int r = 0;

	tree_mode(fs, node, &st);
	switch (node_type(node)) {
	case NODE_TYPE_DIR:
		timeout = SHORT;
		r = dir_attr(fs, node, &st);
		break;
	case NODE_TYPE_CTL:
	case NODE_TYPE_LINK:
		r = text_attr(fs, node, &st);
		break;
	case NODE_TYPE_WAIT:
		r = wait_attr(fs, node, &st);
		break;
	case NODE_TYPE_DATA:
		r = data_attr(fs, node, &st, &timeout);
		break;
	}
	if (r < 0)
		return r;
	*ret_st = st;
	*ret_timeout = timeout;
	return 0;
}

int tree_entry(struct fs *fs, const struct node *node, bool is_fixed,
	       struct fuse_entry_param *ret_entry)
{
	struct fuse_entry_param e = { .ino = node_ino(node) };
	int r = tree_attr(fs, node, &e.attr, &e.attr_timeout);

	if (r < 0)
		return r;
	e.entry_timeout = is_fixed ? FOREVER : 0;
	*ret_entry = e;
	return 0;
}
