/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/content.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "fs/render.h"
#include "fs/status.h"

/*
 * What is kept: a hash of renderings by inode number, and a list of them by
 * age.  All live equally long, so the oldest expire first and each insertion
 * throws out what has expired.
 *
 * A change drops the rendering before its event goes on.  A thread that has
 * rendered the old value and is late to keep it must not: each bucket counts its
 * drops, and a rendering is kept only if the count is what it was before the
 * engine was asked.
 */
enum {
	N_BUCKETS = 4096,
	KEPT_NS = 1000000000,
};

struct kept {
	LIST_ENTRY(kept) in_bucket;
	TAILQ_ENTRY(kept) by_age;
	uint64_t ino;
	uint64_t expires_ns;
	int64_t time_ms;
	size_t len;
	char text[];
};

struct bucket {
	LIST_HEAD(, kept) kept;
	uint64_t drops;
};

struct content {
	pthread_mutex_t lock; /* of all below */
	struct bucket buckets[N_BUCKETS];
	TAILQ_HEAD(kept_list, kept) by_age;
};

struct content *content_new(void)
{
	struct content *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	pthread_mutex_init(&c->lock, NULL);
	TAILQ_INIT(&c->by_age);
	return c;
}

static void forget_locked(struct content *c, struct kept *k)
{
	LIST_REMOVE(k, in_bucket);
	TAILQ_REMOVE(&c->by_age, k, by_age);
	free(k);
}

void content_free(struct content *content)
{
	if (!content)
		return;
	while (!TAILQ_EMPTY(&content->by_age))
		forget_locked(content, TAILQ_FIRST(&content->by_age));
	pthread_mutex_destroy(&content->lock);
	free(content);
}

static struct bucket *bucket_of(struct content *c, uint64_t ino)
{
	return &c->buckets[(ino * UINT64_C(0x9E3779B97F4A7C15)) >> 52];
}

_Static_assert(N_BUCKETS == 1 << (64 - 52), "bucket_of() takes the upper bits");

static struct kept *find_locked(struct content *c, uint64_t ino)
{
	struct kept *k;

	LIST_FOREACH(k, &bucket_of(c, ino)->kept, in_bucket)
	if (k->ino == ino)
		return k;
	return NULL;
}

/* Whether it is kept and still good; else the count for keep(). */
static bool recall(struct content *c, uint64_t ino, struct strbuf *b,
		   int64_t *ret_time_ms, uint64_t *ret_drops)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	struct kept *k = find_locked(c, ino);

	if (!k || k->expires_ns <= timefmt_monotonic_ns()) {
		*ret_drops = bucket_of(c, ino)->drops;
		return false;
	}
	strbuf_add(b, k->text, k->len);
	*ret_time_ms = k->time_ms;
	return true;
}

static void keep(struct content *c, uint64_t ino, const char *text, size_t len,
		 int64_t time_ms, uint64_t drops)
{
	uint64_t now = timefmt_monotonic_ns();
	struct kept *k = malloc(sizeof(*k) + len);
	struct kept *old;

	if (!k)
		return;
	k->ino = ino;
	k->expires_ns = now + KEPT_NS;
	k->time_ms = time_ms;
	k->len = len;
	memcpy(k->text, text, len);

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	while ((old = TAILQ_FIRST(&c->by_age)) && old->expires_ns <= now)
		forget_locked(c, old);
	/* Somebody else's may be there by now: his is as good. */
	if (bucket_of(c, ino)->drops != drops || find_locked(c, ino)) {
		free(k);
		return;
	}
	LIST_INSERT_HEAD(&bucket_of(c, ino)->kept, k, in_bucket);
	TAILQ_INSERT_TAIL(&c->by_age, k, by_age);
}

void content_drop(struct fs *fs, const struct node *node)
{
	struct content *c = fs->content;
	uint64_t ino = node_ino(node);
	struct kept *k;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	bucket_of(c, ino)->drops++;
	k = find_locked(c, ino);
	if (k)
		forget_locked(c, k);
}

static int top_text(struct fs *fs, enum top_file file, struct strbuf *b,
		    int64_t *ret_time_ms)
{
	*ret_time_ms = fs->start_ms;
	switch (file) {
	case TOP_README:
		strbuf_adds(b, status_readme);
		return 0;
	case TOP_VERSION:
		strbuf_adds(b, PACKAGE_VERSION "\n");
		return 0;
	case TOP_STATUS:
		return status_table(fs->engine, b);
	case TOP_STATUS_JSON:
		return status_json(fs->engine, b);
	default:
		return -ENOENT;
	}
}

/* Files that only the engine can write out. */
static bool is_list(const struct node *node)
{
	switch (node->class) {
	case ENGINE_ELEMENT:
		return node->file == ELEMENT_SESSIONS || node->file == ELEMENT_GROUPS ||
		       node->file == ELEMENT_RELATIONSHIPS;
	case ENGINE_GROUP:
		return node->file == GROUP_SPEC || node->file == GROUP_MEMBERS ||
		       node->file == GROUP_CONTROL || node->file == GROUP_RELATIONSHIPS;
	case ENGINE_PAIR:
		return node->file == PAIR_VERIFIED || node->file == PAIR_MAP ||
		       node->file == PAIR_DIGEST;
	case ENGINE_POOL:
		return node->file == POOL_IMAGES;
	default:
		return false;
	}
}

static int64_t result_time(const struct engine_result *result, bool is_result,
			   int64_t created_ms)
{
	return is_result && result->when_ms ? result->when_ms : created_ms;
}

/* The text of a file, or the target of a link, of an object. */
static int object_text(struct fs *fs, const struct node *node, struct strbuf *b,
		       int64_t *ret_time_ms)
{
	union {
		struct element_info element;
		struct group_info group;
		struct pair_info pair;
		struct job_info job;
		struct pool_info pool;
	} info;
	int r;

	switch (node->class) {
	case ENGINE_ELEMENT:
		r = engine_element_info(fs->engine, node->id, &info.element);
		if (r < 0)
			return r;
		render_element(b, &info.element, (enum element_file)node->file);
		render_element_link(b, &info.element, (enum element_file)node->file);
		*ret_time_ms =
			result_time(&info.element.result, node->file == ELEMENT_RESULT,
				    info.element.created_ms);
		return 0;
	case ENGINE_GROUP:
		r = engine_group_info(fs->engine, node->id, &info.group);
		if (r < 0)
			return r;
		render_group(b, &info.group, (enum group_file)node->file);
		render_group_link(b, &info.group, (enum group_file)node->file);
		*ret_time_ms = result_time(&info.group.result, node->file == GROUP_RESULT,
					   info.group.created_ms);
		return 0;
	case ENGINE_PAIR:
		r = engine_pair_info(fs->engine, node->id, &info.pair);
		if (r < 0)
			return r;
		render_pair(b, &info.pair, (enum pair_file)node->file);
		render_pair_link(b, &info.pair, (enum pair_file)node->file);
		*ret_time_ms = result_time(&info.pair.result, node->file == PAIR_RESULT,
					   *ret_time_ms);
		return 0;
	case ENGINE_JOB:
		r = engine_job_info(fs->engine, node->id, &info.job);
		if (r < 0)
			return r;
		render_job(b, &info.job, (enum job_file)node->file);
		render_job_link(b, &info.job, (enum job_file)node->file);
		*ret_time_ms = info.job.last_state_change;
		return 0;
	case ENGINE_POOL:
		r = engine_pool_info(fs->engine, node->id, &info.pool);
		if (r < 0)
			return r;
		render_pool(b, &info.pool, (enum pool_file)node->file);
		return 0;
	default:
		return -ENOENT;
	}
}

static int text_now(struct fs *fs, const struct node *node, struct strbuf *b,
		    int64_t *ret_time_ms)
{
	int r;

	*ret_time_ms = fs->start_ms;
	if (node->class == NODE_CLASS_TOP)
		return top_text(fs, (enum top_file)node->file, b, ret_time_ms);
	if (node->class == NODE_CLASS_CAPABILITY) {
		engine_capability_text((enum capability_file)node->file, b);
		return 0;
	}
	r = object_text(fs, node, b, ret_time_ms);
	if (r < 0 || !is_list(node))
		return r;
	return engine_list_text(fs->engine, node->class, node->id, (unsigned)node->file,
				b);
}

int content_get(struct fs *fs, const struct node *node, struct strbuf *b,
		int64_t *ret_time_ms)
{
	const struct node_file *file = node_file(node);
	bool is_kept = file && (file->kind == NODE_KIND_COUNTER ||
				file->kind == NODE_KIND_PROGRESS);
	uint64_t ino = node_ino(node), drops = 0;
	size_t before = b->len;
	int r;

	if (is_kept && recall(fs->content, ino, b, ret_time_ms, &drops))
		return b->failed ? -ENOMEM : 0;
	r = text_now(fs, node, b, ret_time_ms);
	if (r < 0)
		return r;
	if (b->failed)
		return -ENOMEM;
	if (is_kept)
		keep(fs->content, ino, b->s + before, b->len - before, *ret_time_ms,
		     drops);
	return 0;
}

int content_link(struct fs *fs, const struct node *node, struct strbuf *b,
		 int64_t *ret_time_ms)
{
	size_t before = b->len;
	int r;

	*ret_time_ms = fs->start_ms;
	if (node->class == NODE_CLASS_IMAGE_LINK) {
		struct element_info info;

		r = engine_element_info(fs->engine, node->id, &info);
		if (r < 0)
			return r;
		strbuf_adds(b, info.name);
		*ret_time_ms = info.created_ms;
	} else {
		r = object_text(fs, node, b, ret_time_ms);
		if (r < 0)
			return r;
	}
	if (b->failed)
		return -ENOMEM;
	return b->len > before ? 0 : -ENOENT;
}
