/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/xattr.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/strbuf.h"
#include "fs/idlist.h"
#include "fs/perm.h"

#define PREFIX "user.lunfs."

enum {
	VALUE_MAX = 65536, /* XATTR_SIZE_MAX of Linux */
};

static void add_pid(struct fs *fs, struct strbuf *b)
{
	(void)fs;
	strbuf_addf(b, "%d", (int)getpid());
}

static void add_version(struct fs *fs, struct strbuf *b)
{
	(void)fs;
	strbuf_adds(b, PACKAGE_VERSION);
}

static void add_handles(struct fs *fs, struct strbuf *b)
{
	engine_open_handles(fs->engine, b);
}

/* An element in a relationship keeps its reservation over a stop. */
static void add_if_reserved(struct fs *fs, uint64_t id, struct strbuf *b)
{
	CLEANUP_STRBUF struct strbuf relationships = STRBUF_INIT;
	struct element_info info;

	if (engine_element_info(fs->engine, id, &info) || !info.reserved ||
	    engine_list_text(fs->engine, ENGINE_ELEMENT, id, ELEMENT_RELATIONSHIPS,
			     &relationships))
		return;
	if (relationships.len)
		strbuf_addf(b, "%s\n", info.name);
}

static void add_reserved(struct fs *fs, struct strbuf *b)
{
	CLEANUP_FREE uint64_t *ids = NULL;
	size_t n;

	if (idlist_get(fs->engine, ENGINE_ELEMENT, &ids, &n) < 0) {
		b->failed = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		add_if_reserved(fs, ids[i], b);
}

static const struct {
	const char *name;
	void (*add)(struct fs *fs, struct strbuf *b);
} attributes[] = {
	{ PREFIX "pid", add_pid },
	{ PREFIX "version", add_version },
	{ PREFIX "handles", add_handles },
	{ PREFIX "reserved", add_reserved },
};

static bool is_root(const struct node *node)
{
	return node->class == NODE_CLASS_TOP && node->file == TOP_ROOT;
}

/* EOPNOTSUPP for foreign names, so that ls asks once for ACLs and not once a
 * file. */
static int get_value(struct fs *fs, const struct node *node, const char *name,
		     struct strbuf *b)
{
	if (strncmp(name, PREFIX, strlen(PREFIX)))
		return -EOPNOTSUPP;
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
		if (!is_root(node) || strcmp(name, attributes[i].name))
			continue;
		attributes[i].add(fs, b);
		if (b->failed)
			return -ENOMEM;
		if (b->len > VALUE_MAX)
			b->len = VALUE_MAX;
		return 0;
	}
	return -ENODATA;
}

void xattr_get(struct fs *fs, fuse_req_t req, const struct node *node, const char *name,
	       size_t size)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	int r = get_value(fs, node, name, &b);

	if (r < 0)
		fuse_reply_err(req, -r);
	else if (!size)
		fuse_reply_xattr(req, b.len);
	else if (b.len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, b.s, b.len);
}

static bool is_text(const char *value, size_t size, const char *text)
{
	return size == strlen(text) && !memcmp(value, text, size);
}

static int ask_to_stop(struct fs *fs, fuse_req_t req, const char *value, size_t size)
{
	CLEANUP_STRBUF struct strbuf handles = STRBUF_INIT;
	bool force = is_text(value, size, "force");

	if (!perm_is_owner(req, fs->config->daemon.user))
		return -EPERM;
	if (!force && !is_text(value, size, ""))
		return -EINVAL;
	if (!force && engine_open_handles(fs->engine, &handles))
		return -EBUSY;
	fs->daemon.on_stop(fs->daemon.opaque);
	return 0;
}

void xattr_set(struct fs *fs, fuse_req_t req, const struct node *node, const char *name,
	       const char *value, size_t size)
{
	int r = -EOPNOTSUPP;

	if (is_root(node) && !strcmp(name, PREFIX "stop"))
		r = ask_to_stop(fs, req, value, size);
	fuse_reply_err(req, -r);
}
