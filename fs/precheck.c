/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/precheck.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/config.h"
#include "conf/log.h"
#include "conf/strbuf.h"
#include "engine/pool_mount.h"

static bool check_access(const char *path, struct strbuf *why)
{
	struct stat st;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		errno = ENOTDIR;
	else if (access(path, R_OK | W_OK | X_OK) == 0)
		return true;
	strbuf_addf(why, "%s: %s", path, strerror(errno));
	return false;
}

/*
 * Whether a directory can be used, or made: the last component only.  state_dir,
 * which is checked and made first, may be its parent; NULL for state_dir itself.
 * False with the reason in why.
 */
static bool check_directory(const char *path, const char *state_dir, struct strbuf *why)
{
	CLEANUP_FREE char *parent = strdup(path);
	char chain[POOL_MOUNT_CHAIN_MAX];
	char *slash;

	if (!parent || pool_mount_check("", path, chain, sizeof(chain)) > 0) {
		strbuf_addf(why, "%s: take a directory of another file system",
			    parent ? chain : strerror(ENOMEM));
		return false;
	}
	if (access(path, F_OK) == 0 || errno != ENOENT)
		return check_access(path, why);
	slash = strrchr(parent, '/');
	slash[slash == parent] = '\0';
	if (access(parent, F_OK) < 0 && errno == ENOENT) {
		if (state_dir && strcmp(parent, state_dir) == 0)
			return true;
		strbuf_addf(why, "%s: %s: make that directory first", parent,
			    strerror(ENOENT));
		return false;
	}
	return check_access(parent, why);
}

/* Cuts a path down to the first directory that would have to be made. */
static void keep_first_missing(char *path)
{
	char *slash;

	while ((slash = strrchr(path, '/')) && slash != path) {
		*slash = '\0';
		if (access(path, F_OK) == 0 || errno != ENOENT) {
			*slash = '/';
			return;
		}
	}
}

static bool check_state_dir(const struct config *c)
{
	CLEANUP_STRBUF struct strbuf why = STRBUF_INIT;
	CLEANUP_FREE char *path = strdup(c->daemon.state_dir);

	/* The parents of the default are made too. */
	if (path && c->daemon.state_dir_is_default)
		keep_first_missing(path);
	if (path && check_directory(path, NULL, &why))
		return true;
	if (!path)
		strbuf_adds(&why, strerror(ENOMEM));
	log_error("%s: [daemon] state_dir = %s: %s", c->path, c->daemon.state_dir, why.s);
	return false;
}

static bool check_pool(const struct config *c, const struct config_pool *pool)
{
	CLEANUP_STRBUF struct strbuf why = STRBUF_INIT;

	if (check_directory(pool->path, c->daemon.state_dir, &why))
		return true;
	log_error("%s:%u: [pool %s] path = %s: %s", c->path, pool->line, pool->name,
		  pool->path, why.s);
	return false;
}

static const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

static int check_config(const struct config *c)
{
	bool good = check_state_dir(c);

	for (size_t i = 0; i < c->n_pools; i++)
		good = check_pool(c, &c->pools[i]) && good;
	if (!good)
		return 1;
	printf("%s: ok: %zu element%s, %zu pool%s, %zu access point%s, %zu setting%s\n",
	       c->path, c->n_elements, plural(c->n_elements), c->n_pools,
	       plural(c->n_pools), c->n_access_points, plural(c->n_access_points),
	       c->n_settings, plural(c->n_settings));
	return 0;
}

int precheck_run(const char *config_path)
{
	CLEANUP_FREE char *error = NULL;
	struct config *config = NULL;
	int r = config_load(config_path, &config, &error);

	if (r < 0) {
		log_error("%s", error ? error : strerror(-r));
		return 1;
	}
	r = check_config(config);
	config_free(config);
	return r;
}
