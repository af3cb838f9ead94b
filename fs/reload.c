/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/reload.h"

#include <stdbool.h>
#include <string.h>

/* All sections of one kind.  Each element begins with its name. */
struct sections {
	const char *kind;
	const void *items;
	size_t n, size;
	bool (*equal)(const void *a, const void *b);
};

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool daemon_equal(const struct config_daemon *a, const struct config_daemon *b)
{
	return same(a->state_dir, b->state_dir) &&
	       same(a->initiator_name, b->initiator_name) &&
	       same(a->default_pool, b->default_pool) &&
	       a->copy_memory == b->copy_memory &&
	       a->job_retention_s == b->job_retention_s &&
	       a->fence_timeout_ms == b->fence_timeout_ms &&
	       a->io_timeout_ms == b->io_timeout_ms && a->io_threads == b->io_threads &&
	       a->allow_other == b->allow_other && a->user == b->user &&
	       a->group == b->group && a->mode == b->mode;
}

static bool pool_equal(const void *a_, const void *b_)
{
	const struct config_pool *a = a_, *b = b_;

	return same(a->path, b->path);
}

static bool access_point_equal(const void *a_, const void *b_)
{
	const struct config_access_point *a = a_, *b = b_;

	return same(a->portal, b->portal) && same(a->user, b->user) &&
	       same(a->password, b->password) && same(a->target_user, b->target_user) &&
	       same(a->target_password, b->target_password) &&
	       a->header_digest == b->header_digest;
}

static bool element_equal(const void *a_, const void *b_)
{
	const struct config_element *a = a_, *b = b_;

	return same(a->url, b->url) && same(a->access_point, b->access_point) &&
	       a->access == b->access && a->write_cache == b->write_cache &&
	       a->io_timeout_ms == b->io_timeout_ms;
}

static bool setting_equal(const void *a_, const void *b_)
{
	const struct config_setting *a = a_, *b = b_;

	return same(a->quiesce_command, b->quiesce_command) &&
	       same(a->thaw_command, b->thaw_command) &&
	       same(a->properties, b->properties) &&
	       a->shared_method == b->shared_method &&
	       a->max_bytes_per_second == b->max_bytes_per_second;
}

static const char *item_name(const struct sections *s, size_t i)
{
	return (const char *)s->items + i * s->size;
}

static const void *find_item(const struct sections *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++) {
		if (same(item_name(s, i), name))
			return item_name(s, i);
	}
	return NULL;
}

static void add(struct strbuf *b, const char *kind, const char *name, const char *what)
{
	strbuf_addf(b, "%s[%s%s%s] (%s)", b->len ? ", " : "", kind, *name ? " " : "",
		    name, what);
}

static unsigned compare(const struct sections *before, const struct sections *after,
			struct strbuf *b)
{
	unsigned n = 0;

	for (size_t i = 0; i < after->n; i++) {
		const char *name = item_name(after, i);
		const void *old = find_item(before, name);

		if (old && after->equal(old, name))
			continue;
		add(b, after->kind, name, old ? "changed" : "new");
		n++;
	}
	for (size_t i = 0; i < before->n; i++) {
		const char *name = item_name(before, i);

		if (find_item(after, name))
			continue;
		add(b, before->kind, name, "gone");
		n++;
	}
	return n;
}

enum { N_KINDS = 4 };

static void list_sections(const struct config *c, struct sections sections[N_KINDS])
{
	sections[0] = (struct sections){ "pool", c->pools, c->n_pools, sizeof(*c->pools),
					 pool_equal };
	sections[1] =
		(struct sections){ "access_point", c->access_points, c->n_access_points,
				   sizeof(*c->access_points), access_point_equal };
	sections[2] = (struct sections){ "element", c->elements, c->n_elements,
					 sizeof(*c->elements), element_equal };
	sections[3] = (struct sections){ "setting", c->settings, c->n_settings,
					 sizeof(*c->settings), setting_equal };
}

_Static_assert(offsetof(struct config_pool, name) == 0, "name comes first");
_Static_assert(offsetof(struct config_access_point, name) == 0, "name comes first");
_Static_assert(offsetof(struct config_element, name) == 0, "name comes first");
_Static_assert(offsetof(struct config_setting, name) == 0, "name comes first");

unsigned reload_changes(const struct config *before, const struct config *after,
			struct strbuf *b)
{
	struct sections old[N_KINDS], new[N_KINDS];
	unsigned n = 0;

	if (!daemon_equal(&before->daemon, &after->daemon)) {
		add(b, "daemon", "", "changed");
		n++;
	}
	list_sections(before, old);
	list_sections(after, new);
	for (size_t i = 0; i < N_KINDS; i++)
		n += compare(&old[i], &new[i], b);
	return n;
}
