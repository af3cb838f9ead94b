/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/config_daemon.h"
#include "conf/iscsiname.h"
#include "conf/rawconf.h"
#include "conf/secret.h"
#include "conf/strbuf.h"

/*
 * rawconf.c has read the sections and sorted them by type and name; here each
 * becomes its struct, type by type, so that the arrays are sorted too.  Every
 * problem is noted and the building goes on with a harmless value in its place.
 */

enum {
	MAX_FILE_SIZE = 64 << 20,
};

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The sections of one type. */
struct span {
	const struct rawconf_section *sections;
	size_t n;
};

static struct span find_span(const struct rawconf *raw, enum rawconf_type type)
{
	struct span span = { NULL, 0 };

	for (size_t i = 0; i < raw->n_sections; i++)
		if (raw->sections[i].type == type && !span.n++)
			span.sections = &raw->sections[i];
	return span;
}

static const char *text_of(const struct rawconf_section *section, enum rawconf_key key)
{
	const struct rawconf_value *value = rawconf_get(section, key);

	return value ? value->text : NULL;
}

/* An array for the sections; NULL with *ret_n 0 if there are none. */
static void *new_array(struct rawconf *raw, size_t n, size_t size, size_t *ret_n)
{
	void *array = n ? calloc(n, size) : NULL;

	if (n && !array)
		raw->is_out_of_memory = true;
	*ret_n = array ? n : 0;
	return array;
}

static void build_pool(struct rawconf *raw, const struct rawconf_section *section,
		       struct config_pool *pool)
{
	const struct rawconf_value *type = rawconf_get(section, RAWCONF_POOL_TYPE);

	memcpy(pool->name, section->name, strlen(section->name) + 1);
	pool->line = section->line;
	if (type && !strcmp(type->text, "rbd"))
		rawconf_problem(raw, type->line,
				"pool %s: type rbd is not built in; use type = dir",
				pool->name);
	else if (type && strcmp(type->text, "dir"))
		rawconf_problem(raw, type->line,
				"type: wrong value %s; valid: dir (rbd is not built in)",
				name_quote(type->text).s);
	if (!rawconf_get(section, RAWCONF_POOL_PATH))
		rawconf_problem(raw, section->line,
				"pool %s has no path; add path = /DIRECTORY", pool->name);
	else if (config_is_path(raw, section, RAWCONF_POOL_PATH))
		pool->path = config_copy(raw, text_of(section, RAWCONF_POOL_PATH));
	if (!pool->path)
		pool->path = config_copy(raw, NULL);
}

static void build_pools(struct rawconf *raw, struct config *c)
{
	struct span span = find_span(raw, RAWCONF_POOL);

	c->pools = new_array(raw, span.n, sizeof(*c->pools), &c->n_pools);
	for (size_t i = 0; i < c->n_pools; i++)
		build_pool(raw, &span.sections[i], &c->pools[i]);
	for (size_t i = 0; !raw->is_out_of_memory && i < c->n_pools; i++)
		for (size_t j = 0; j < i; j++)
			if (*c->pools[i].path &&
			    !strcmp(c->pools[i].path, c->pools[j].path))
				rawconf_problem(
					raw, c->pools[i].line,
					"the pools %s and %s (line %u) have the same "
					"path; give each its own",
					c->pools[i].name, c->pools[j].name,
					c->pools[j].line);
}

static void build_default_pool(struct rawconf *raw, struct config *c)
{
	struct span span = find_span(raw, RAWCONF_DAEMON);
	const struct rawconf_value *value =
		rawconf_get(span.sections, RAWCONF_DAEMON_DEFAULT_POOL);
	CLEANUP_FREE const char **names = NULL;

	if (value && !config_find_pool(c, value->text)) {
		names = calloc(c->n_pools + 1, sizeof(*names));
		for (size_t i = 0; names && i < c->n_pools; i++)
			names[i] = c->pools[i].name;
		rawconf_problem(raw, value->line,
				"default_pool: there is no [pool %s]; %s", value->text,
				names ? name_hint(value->text, names, c->n_pools).s : "");
	}
	if (value)
		c->daemon.default_pool = config_copy(raw, value->text);
	else
		c->daemon.default_pool =
			config_copy(raw, c->n_pools == 1 ? c->pools[0].name : "");
}

static char *read_secret(struct rawconf *raw, const struct rawconf_section *section,
			 enum rawconf_key key)
{
	const struct rawconf_value *value = rawconf_get(section, key);
	char error[512];
	char *secret = NULL;

	if (!config_is_path(raw, section, key))
		return config_copy(raw, NULL);
	if (secret_read(value->text, &secret, error, sizeof(error)) < 0) {
		rawconf_problem(raw, value->line, "%s: %s", rawconf_key_name(key), error);
		return config_copy(raw, NULL);
	}
	return secret;
}

/* A user and its password file go together. */
static void check_couple(struct rawconf *raw, const struct rawconf_section *section,
			 enum rawconf_key user, enum rawconf_key file)
{
	const struct rawconf_value *user_value = rawconf_get(section, user);
	const struct rawconf_value *file_value = rawconf_get(section, file);

	if (!user_value != !file_value)
		rawconf_problem(raw, user_value ? user_value->line : file_value->line,
				"access_point %s: %s without %s; give both or none",
				section->name, rawconf_key_name(user_value ? user : file),
				rawconf_key_name(user_value ? file : user));
}

static void check_chap(struct rawconf *raw, const struct rawconf_section *section,
		       const struct config_access_point *ap)
{
	check_couple(raw, section, RAWCONF_ACCESS_POINT_USER,
		     RAWCONF_ACCESS_POINT_PASSWORD_FILE);
	check_couple(raw, section, RAWCONF_ACCESS_POINT_TARGET_USER,
		     RAWCONF_ACCESS_POINT_TARGET_PASSWORD_FILE);
	if (raw->is_out_of_memory)
		return;
	if (*ap->target_user && !*ap->user)
		rawconf_problem(
			raw, section->line,
			"access_point %s: target_user without user; a target proves "
			"itself only to an initiator that does, add user and "
			"password_file",
			ap->name);
	/* RFC 7143 9.2.1: one secret must not serve both directions. */
	if (*ap->password && !strcmp(ap->password, ap->target_password))
		rawconf_problem(
			raw, section->line,
			"access_point %s: password_file and target_password_file hold "
			"the same secret; CHAP needs two",
			ap->name);
}

static void build_access_point(struct rawconf *raw, const struct rawconf_section *section,
			       struct config_access_point *ap)
{
	const struct rawconf_value *portal =
		rawconf_get(section, RAWCONF_ACCESS_POINT_PORTAL);
	char canonical[ISCSINAME_PORTAL_SIZE] = "";

	memcpy(ap->name, section->name, strlen(section->name) + 1);
	ap->line = section->line;
	if (!portal)
		rawconf_problem(raw, section->line,
				"access_point %s has no portal; add portal = HOST:PORT",
				ap->name);
	else if (iscsiname_portal(portal->text, canonical) < 0)
		rawconf_problem(
			raw, portal->line,
			"portal: this is none; write host, host:port or [v6]:port, "
			"without user or password");
	ap->portal = config_copy(raw, canonical);
	ap->user = config_copy(raw, text_of(section, RAWCONF_ACCESS_POINT_USER));
	ap->password = read_secret(raw, section, RAWCONF_ACCESS_POINT_PASSWORD_FILE);
	ap->target_user =
		config_copy(raw, text_of(section, RAWCONF_ACCESS_POINT_TARGET_USER));
	ap->target_password =
		read_secret(raw, section, RAWCONF_ACCESS_POINT_TARGET_PASSWORD_FILE);
	config_read_bool(raw, section, RAWCONF_ACCESS_POINT_HEADER_DIGEST,
			 &ap->header_digest);
	check_chap(raw, section, ap);
}

static void build_access_points(struct rawconf *raw, struct config *c)
{
	struct span span = find_span(raw, RAWCONF_ACCESS_POINT);

	c->access_points =
		new_array(raw, span.n, sizeof(*c->access_points), &c->n_access_points);
	for (size_t i = 0; i < c->n_access_points; i++)
		build_access_point(raw, &span.sections[i], &c->access_points[i]);
}

/* Takes the URL of `url = ...` apart; false with the problem noted. */
static bool parse_element_url(struct rawconf *raw, const struct rawconf_section *section,
			      struct config_url *url)
{
	const struct rawconf_value *value = rawconf_get(section, RAWCONF_ELEMENT_URL);
	char error[256];

	if (!config_parse_url(value->text, url, error, sizeof(error)))
		return true;
	rawconf_problem(raw, value->line, "url: %s", error);
	return false;
}

/* The same of access_point, target and lun, all of which are given. */
static bool join_element_url(struct rawconf *raw, const struct rawconf_section *section,
			     const struct config *c, struct config_url *url)
{
	const struct rawconf_value *name =
		rawconf_get(section, RAWCONF_ELEMENT_ACCESS_POINT);
	const struct rawconf_value *target = rawconf_get(section, RAWCONF_ELEMENT_TARGET);
	const struct rawconf_value *lun = rawconf_get(section, RAWCONF_ELEMENT_LUN);
	const struct config_access_point *ap = config_find_access_point(c, name->text);
	bool is_ok = true;

	if (!ap) {
		rawconf_problem(
			raw, name->line,
			"access_point: there is no [access_point %s]; define it, or "
			"correct the name",
			name->text);
		is_ok = false;
	}
	if (iscsiname_check(target->text) < 0) {
		rawconf_problem(raw, target->line,
				"target: %s is no iSCSI name of at most %d bytes; write "
				"iqn.2026-01.org.example:disk",
				name_quote(target->text).s, ISCSINAME_MAX_LEN);
		is_ok = false;
	}
	if (iscsiname_lun(lun->text, &url->lun) < 0) {
		rawconf_problem(raw, lun->line, "lun: %s is no number from 0 to %d",
				name_quote(lun->text).s, ISCSINAME_MAX_LUN);
		is_ok = false;
	}
	if (!is_ok || !ap->portal || !*ap->portal)
		return false;
	url->scheme = CONFIG_URL_ISCSI;
	snprintf(url->portal, sizeof(url->portal), "%s", ap->portal);
	snprintf(url->target, sizeof(url->target), "%s", target->text);
	return true;
}

/* The element's URL; "" with the problem noted. */
static char *build_url(struct rawconf *raw, const struct rawconf_section *section,
		       const struct config *c)
{
	bool has_url = rawconf_get(section, RAWCONF_ELEMENT_URL);
	unsigned n_parts = !!rawconf_get(section, RAWCONF_ELEMENT_ACCESS_POINT) +
			   !!rawconf_get(section, RAWCONF_ELEMENT_TARGET) +
			   !!rawconf_get(section, RAWCONF_ELEMENT_LUN);
	struct config_url url = { 0 };
	char text[sizeof(url.path) + 16];
	bool is_ok = false;

	if (has_url && n_parts)
		rawconf_problem(
			raw, section->line,
			"element %s: url beside access_point, target or lun; give url "
			"alone or the three others",
			section->name);
	else if (!has_url && !n_parts)
		rawconf_problem(raw, section->line,
				"element %s has no url; add url = URL, or access_point, "
				"target and lun",
				section->name);
	else if (!has_url && n_parts < 3)
		rawconf_problem(
			raw, section->line,
			"element %s: access_point, target and lun go together; add "
			"what is missing",
			section->name);
	else
		is_ok = has_url ? parse_element_url(raw, section, &url) :
				  join_element_url(raw, section, c, &url);
	if (!is_ok || config_format_url(&url, text, sizeof(text)) < 0)
		text[0] = '\0';
	return config_copy(raw, text);
}

static void build_element(struct rawconf *raw, const struct rawconf_section *section,
			  const struct config *c, struct config_element *e)
{
	static const char *const accesses[] = { "shared", "exclusive" };
	static const char *const caches[] = { "back", "through" };
	const char *ap = text_of(section, RAWCONF_ELEMENT_ACCESS_POINT);
	unsigned access = CONFIG_ACCESS_SHARED, cache = CONFIG_WRITE_BACK;

	memcpy(e->name, section->name, strlen(section->name) + 1);
	e->line = section->line;
	e->url = build_url(raw, section, c);
	if (ap && config_find_access_point(c, ap))
		snprintf(e->access_point, sizeof(e->access_point), "%s", ap);
	config_read_choice(raw, section, RAWCONF_ELEMENT_ACCESS, accesses,
			   ARRAY_LEN(accesses), &access);
	config_read_choice(raw, section, RAWCONF_ELEMENT_WRITE_CACHE, caches,
			   ARRAY_LEN(caches), &cache);
	e->access = access;
	e->write_cache = cache;
	e->io_timeout_ms = c->daemon.io_timeout_ms;
	config_read_duration(
		raw, section, RAWCONF_ELEMENT_IO_TIMEOUT, 1, 1000, 600000,
		"write seconds, or a number with ms, s or m, from 1s to 600s",
		&e->io_timeout_ms);
}

static int by_url(const void *a, const void *b)
{
	const struct config_element *const *x = a, *const *y = b;
	int r = strcmp((*x)->url, (*y)->url);

	return r ? r : ((*x)->line < (*y)->line ? -1 : (*x)->line > (*y)->line);
}

/* Two elements of the same bytes would write behind each other's back.  Those
 * of the null device are never the same. */
static void check_urls(struct rawconf *raw, const struct config *c)
{
	CLEANUP_FREE const struct config_element **sorted = NULL;

	if (!c->n_elements || raw->is_out_of_memory)
		return;
	sorted = calloc(c->n_elements, sizeof(*sorted));
	if (!sorted) {
		raw->is_out_of_memory = true;
		return;
	}
	for (size_t i = 0; i < c->n_elements; i++)
		sorted[i] = &c->elements[i];
	qsort(sorted, c->n_elements, sizeof(*sorted), by_url);
	for (size_t i = 1; i < c->n_elements; i++)
		if (!strcmp(sorted[i]->url, sorted[i - 1]->url) &&
		    (!strncmp(sorted[i]->url, "iscsi:", 6) ||
		     !strncmp(sorted[i]->url, "file:", 5)))
			rawconf_problem(
				raw, sorted[i]->line,
				"the elements %s and %s (line %u) are the same LUN or "
				"file; keep one",
				sorted[i]->name, sorted[i - 1]->name,
				sorted[i - 1]->line);
}

static void build_elements(struct rawconf *raw, struct config *c)
{
	struct span span = find_span(raw, RAWCONF_ELEMENT);

	c->elements = new_array(raw, span.n, sizeof(*c->elements), &c->n_elements);
	for (size_t i = 0; i < c->n_elements; i++)
		build_element(raw, &span.sections[i], c, &c->elements[i]);
	check_urls(raw, c);
}

static char *build_properties(struct rawconf *raw, const struct rawconf_section *section)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	char value[SETTING_VALUE_SIZE], error[512];
	char *text;

	for (int i = 0; i < SETTING_N_PROPERTIES; i++) {
		const struct rawconf_value *given = &section->properties[i];

		if (!given->text)
			continue;
		if (setting_check(i, given->text, value, error, sizeof(error)) < 0)
			rawconf_problem(raw, given->line, "%s", error);
		else
			strbuf_addf(&b, "%s=%s\n", setting_names[i], value);
	}
	text = strbuf_steal(&b);
	if (!text)
		raw->is_out_of_memory = true;
	return text;
}

static void build_setting(struct rawconf *raw, const struct rawconf_section *section,
			  struct config_setting *s)
{
	static const char *const methods[] = { "none", "quiesce", "reserve",
					       "double-scan" };
	unsigned method = CONFIG_SHARED_NONE;

	memcpy(s->name, section->name, strlen(section->name) + 1);
	s->line = section->line;
	s->quiesce_command =
		config_copy(raw, text_of(section, RAWCONF_SETTING_QUIESCE_COMMAND));
	s->thaw_command =
		config_copy(raw, text_of(section, RAWCONF_SETTING_THAW_COMMAND));
	config_read_choice(raw, section, RAWCONF_SETTING_SHARED_METHOD, methods,
			   ARRAY_LEN(methods), &method);
	s->shared_method = method;
	if (method == CONFIG_SHARED_QUIESCE &&
	    !rawconf_get(section, RAWCONF_SETTING_QUIESCE_COMMAND))
		rawconf_problem(
			raw, section->line,
			"setting %s: shared_method = quiesce without quiesce_command; "
			"add the command",
			s->name);
	config_read_size(raw, section, RAWCONF_SETTING_MAX_BYTES_PER_SECOND, 0,
			 UINT64_MAX,
			 "write bytes per second, or a number with K, M, G or T; 0 is no "
			 "limit",
			 &s->max_bytes_per_second);
	config_read_bool(raw, section, RAWCONF_SETTING_DIGEST, &s->digest);
	s->properties = build_properties(raw, section);
}

static void build_settings(struct rawconf *raw, struct config *c)
{
	struct span span = find_span(raw, RAWCONF_SETTING);

	c->settings = new_array(raw, span.n, sizeof(*c->settings), &c->n_settings);
	for (size_t i = 0; i < c->n_settings; i++)
		build_setting(raw, &span.sections[i], &c->settings[i]);
}

static struct config *build(struct rawconf *raw, const char *path)
{
	struct config *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->path = config_copy(raw, path);
	config_daemon_build(raw, find_span(raw, RAWCONF_DAEMON).sections, &c->daemon);
	build_pools(raw, c);
	build_default_pool(raw, c);
	build_access_points(raw, c);
	build_elements(raw, c);
	build_settings(raw, c);
	return c;
}

int config_parse(const char *path, const char *text, size_t len,
		 struct config **ret_config, char **ret_error)
{
	struct rawconf raw = { 0 };
	struct config *c;
	int r = 0;

	rawconf_read(&raw, text, len);
	c = build(&raw, path);
	if (!c || raw.is_out_of_memory) {
		*ret_error = NULL;
		r = -ENOMEM;
	} else if (raw.n_problems) {
		*ret_error = rawconf_report(&raw, path);
		r = -EINVAL;
	} else {
		*ret_config = move_ptr(c);
	}
	config_free(c);
	rawconf_done(&raw);
	return r;
}

static int read_file(const char *path, struct strbuf *b)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char buf[16384];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf)))) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		strbuf_add(b, buf, (size_t)n);
		if (b->failed)
			return -ENOMEM;
		if (b->len > MAX_FILE_SIZE)
			return -EFBIG;
	}
	return 0;
}

int config_load(const char *path, struct config **ret_config, char **ret_error)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	int r = read_file(path, &b);

	if (!r)
		return config_parse(path, b.s, b.len, ret_config, ret_error);
	if (asprintf(ret_error, "%s: read: %s\n", path, strerror(-r)) < 0)
		*ret_error = NULL;
	return r;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_pools; i++)
		free(c->pools[i].path);
	for (size_t i = 0; i < c->n_access_points; i++) {
		struct config_access_point *ap = &c->access_points[i];

		free(ap->portal);
		free(ap->user);
		secret_free(ap->password);
		free(ap->target_user);
		secret_free(ap->target_password);
	}
	for (size_t i = 0; i < c->n_elements; i++)
		free(c->elements[i].url);
	for (size_t i = 0; i < c->n_settings; i++) {
		free(c->settings[i].quiesce_command);
		free(c->settings[i].thaw_command);
		free(c->settings[i].properties);
	}
	free(c->pools);
	free(c->access_points);
	free(c->elements);
	free(c->settings);
	free(c->daemon.state_dir);
	free(c->daemon.initiator_name);
	free(c->daemon.default_pool);
	free(c->path);
	free(c);
}

/* Every struct that is looked up begins with its name. */
static int compare_name(const void *name, const void *object)
{
	return strcmp(name, object);
}

#define FIND(name, array, n) \
	((n) ? bsearch(name, array, n, sizeof(*(array)), compare_name) : NULL)

const struct config_pool *config_find_pool(const struct config *c, const char *name)
{
	return FIND(name, c->pools, c->n_pools);
}

const struct config_access_point *config_find_access_point(const struct config *c,
							   const char *name)
{
	return FIND(name, c->access_points, c->n_access_points);
}

const struct config_element *config_find_element(const struct config *c, const char *name)
{
	return FIND(name, c->elements, c->n_elements);
}

const struct config_setting *config_find_setting(const struct config *c, const char *name)
{
	return FIND(name, c->settings, c->n_settings);
}
