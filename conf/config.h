/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CONF_CONFIG_H
#define LUNFS_CONF_CONFIG_H

/*
 * The configuration file, as plain C values (interface section 7,
 * lunfs.conf(5)).  Everything is allocated by config_load() and owned by the
 * struct config; strings are never NULL unless said so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/name.h"

enum config_access { CONFIG_ACCESS_SHARED, CONFIG_ACCESS_EXCLUSIVE };
enum config_write_cache { CONFIG_WRITE_BACK, CONFIG_WRITE_THROUGH };
enum config_shared_method {
	CONFIG_SHARED_NONE,
	CONFIG_SHARED_QUIESCE,
	CONFIG_SHARED_RESERVE,
	CONFIG_SHARED_DOUBLE_SCAN,
};

struct config_daemon {
	char *state_dir;       /* absolute; default /var/lib/lunfs for root, else
				* $XDG_STATE_HOME/lunfs or $HOME/.local/state/lunfs */
	bool state_dir_is_default; /* its parents may be made too */
	char *initiator_name;  /* iqn.…, eui.… or naa.…; default: read from
				* /etc/iscsi/initiatorname.iscsi if there, else
				* iqn.2026-01.org.lunfs:<hostname> */
	uint64_t copy_memory;  /* bytes; accepts suffixes K M G T (1024); default 64M,
				* range 4M..64G */
	char *default_pool;    /* the only pool by default; "" when there is none, or
				* several and none was named */
	unsigned job_retention_s; /* default 86400; durations accept s m h d */
	unsigned fence_timeout_ms; /* default 7000, range 100..120000 */
	unsigned io_timeout_ms;    /* default 30000, range 1000..600000 */
	unsigned io_threads;       /* default: online cores, range 1..64 */
	bool allow_other;
	uid_t user;   /* owner of the tree; default: the caller */
	gid_t group;
	mode_t mode; /* of data and images; octal, default 0660; at most 0666 */
};

struct config_pool {
	char name[NAME_MAX_LEN + 1];
	char *path; /* absolute; type is dir, the only one so far */
	unsigned line;
};

struct config_access_point {
	char name[NAME_MAX_LEN + 1];
	char *portal;          /* host:port or [v6]:port, port default 3260 filled in */
	char *user;            /* CHAP user; "" = no CHAP */
	char *password;        /* read from password_file; never printed anywhere */
	char *target_user;     /* mutual CHAP; "" = none */
	char *target_password;
	bool header_digest;
	unsigned line;
};

struct config_element {
	char name[NAME_ELEMENT_MAX_LEN + 1];
	char *url;                /* iscsi://portal/iqn/lun or file:///path, canonical;
				   * an element given as access_point + target + lun
				   * gets its URL built here */
	char access_point[NAME_MAX_LEN + 1]; /* "" = none */
	enum config_access access;
	enum config_write_cache write_cache;
	unsigned io_timeout_ms; /* of this element; default [daemon] io_timeout */
	unsigned line;
};

struct config_setting {
	char name[NAME_MAX_LEN + 1];
	char *quiesce_command; /* "" = none */
	char *thaw_command;
	enum config_shared_method shared_method;
	uint64_t max_bytes_per_second; /* 0 = no limit */
	bool digest; /* pairs/N/digest is computed once the copy is complete */
	/* CIM_ReplicationSettingData properties that were given, as
	 * `Name=value` lines in canonical spelling, one a line. */
	char *properties;
	unsigned line;
};

struct config {
	char *path; /* the file it was read from */
	struct config_daemon daemon;
	struct config_pool *pools;
	size_t n_pools;
	struct config_access_point *access_points;
	size_t n_access_points;
	struct config_element *elements;
	size_t n_elements;
	struct config_setting *settings;
	size_t n_settings;
};

/*
 * Reads and checks a configuration file.  0 with *ret_config, to be freed by
 * config_free(); or -errno with in `*ret_error` (freed by the caller; NULL if
 * memory ran out) one sentence a problem, a line each, `FILE:LINE: what;
 * remedy`: all problems found, not only the first.  Opens the file, the
 * password files and what its defaults are read from (initiator_name, user);
 * does not look at pools, state_dir or the network.  The arrays of *ret_config
 * are sorted by name.
 */
int config_load(const char *path, struct config **ret_config, char **ret_error);

/* The same from memory; `path` is what messages call it. */
int config_parse(const char *path, const char *text, size_t len,
		 struct config **ret_config, char **ret_error);

void config_free(struct config *config); /* wipes secrets; takes NULL */

const struct config_pool *config_find_pool(const struct config *c, const char *name);
const struct config_access_point *config_find_access_point(const struct config *c,
							   const char *name);
const struct config_element *config_find_element(const struct config *c,
						 const char *name);
const struct config_setting *config_find_setting(const struct config *c,
						 const char *name);

/* One key of one section, for the man page's test and for messages. */
struct config_key {
	const char *section; /* "daemon", "pool", … */
	const char *key;
};
extern const struct config_key config_keys[];
extern const size_t config_n_keys;

/*
 * An element's URL, taken apart.  Grammar: `iscsi://PORTAL/IQN/LUN` (PORTAL:
 * host, host:port, [v6]:port; no user or password: refused by name) or
 * `file:///ABSOLUTE/PATH`.  `null:SIZE` and `fault:…` only where the
 * environment has LUNFS_TEST_BACKENDS=1.
 */
enum config_url_scheme { CONFIG_URL_ISCSI, CONFIG_URL_FILE, CONFIG_URL_NULL,
			 CONFIG_URL_FAULT };
struct config_url {
	enum config_url_scheme scheme;
	char portal[272]; /* with port; iscsi */
	char target[224]; /* iscsi: iqn, at most 223 bytes (RFC 7143) */
	unsigned lun;     /* iscsi: 0..16383 */
	char path[4096];  /* file: absolute path; fault: the rest, `RULES:INNER-URL` */
	uint64_t size;    /* null: bytes */
};
/* 0, or -EINVAL with a sentence (no newline, no secret) in error. */
int config_parse_url(const char *text, struct config_url *ret_url, char *error,
		     size_t error_size);
/* The canonical text of a URL into buf; -ENAMETOOLONG if it does not fit. */
int config_format_url(const struct config_url *url, char *buf, size_t size);

#endif
