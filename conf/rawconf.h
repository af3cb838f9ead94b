/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RAWCONF_H
#define LUNFS_RAWCONF_H

/*
 * The first half of reading the configuration: which sections and keys there
 * are, as text.  Sections and keys are known ones and occur once; what the
 * values mean is config.c's.  Problems of both halves are collected here.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "conf/name.h"
#include "conf/setting.h"

/* X(section, key), sections together, in the order of the man page. */
#define RAWCONF_KEYS(X)                                                               \
	X(DAEMON, "daemon", STATE_DIR, "state_dir")                                   \
	X(DAEMON, "daemon", INITIATOR_NAME, "initiator_name")                         \
	X(DAEMON, "daemon", COPY_MEMORY, "copy_memory")                               \
	X(DAEMON, "daemon", DEFAULT_POOL, "default_pool")                             \
	X(DAEMON, "daemon", JOB_RETENTION, "job_retention")                           \
	X(DAEMON, "daemon", FENCE_TIMEOUT, "fence_timeout")                           \
	X(DAEMON, "daemon", IO_TIMEOUT, "io_timeout")                                 \
	X(DAEMON, "daemon", IO_THREADS, "io_threads")                                 \
	X(DAEMON, "daemon", ALLOW_OTHER, "allow_other")                               \
	X(DAEMON, "daemon", USER, "user")                                             \
	X(DAEMON, "daemon", GROUP, "group")                                           \
	X(DAEMON, "daemon", MODE, "mode")                                             \
	X(POOL, "pool", TYPE, "type")                                                 \
	X(POOL, "pool", PATH, "path")                                                 \
	X(ACCESS_POINT, "access_point", PORTAL, "portal")                             \
	X(ACCESS_POINT, "access_point", USER, "user")                                 \
	X(ACCESS_POINT, "access_point", PASSWORD_FILE, "password_file")               \
	X(ACCESS_POINT, "access_point", TARGET_USER, "target_user")                   \
	X(ACCESS_POINT, "access_point", TARGET_PASSWORD_FILE, "target_password_file") \
	X(ACCESS_POINT, "access_point", HEADER_DIGEST, "header_digest")               \
	X(ELEMENT, "element", URL, "url")                                             \
	X(ELEMENT, "element", ACCESS_POINT, "access_point")                           \
	X(ELEMENT, "element", TARGET, "target")                                       \
	X(ELEMENT, "element", LUN, "lun")                                             \
	X(ELEMENT, "element", ACCESS, "access")                                       \
	X(ELEMENT, "element", WRITE_CACHE, "write_cache")                             \
	X(ELEMENT, "element", IO_TIMEOUT, "io_timeout")                               \
	X(SETTING, "setting", QUIESCE_COMMAND, "quiesce_command")                     \
	X(SETTING, "setting", THAW_COMMAND, "thaw_command")                           \
	X(SETTING, "setting", SHARED_METHOD, "shared_method")                         \
	X(SETTING, "setting", MAX_BYTES_PER_SECOND, "max_bytes_per_second")           \
	X(SETTING, "setting", DIGEST, "digest")

#define RAWCONF_KEY_(section, section_name, key, name) RAWCONF_##section##_##key,
enum rawconf_key { RAWCONF_KEYS(RAWCONF_KEY_) RAWCONF_N_KEYS };
#undef RAWCONF_KEY_

enum rawconf_type {
	RAWCONF_DAEMON,
	RAWCONF_POOL,
	RAWCONF_ACCESS_POINT,
	RAWCONF_ELEMENT,
	RAWCONF_SETTING,
	RAWCONF_N_TYPES,
};

struct rawconf_value {
	char *text; /* NULL if the key was not given */
	unsigned line;
};

struct rawconf_section {
	enum rawconf_type type;
	char name[NAME_ELEMENT_MAX_LEN + 1]; /* "" for [daemon] */
	unsigned line;
	struct rawconf_value *values;	  /* one for each key of the type */
	struct rawconf_value *properties; /* SETTING_N_PROPERTIES of a setting, or NULL */
};

struct rawconf_problem {
	unsigned line;
	char *text;
};

struct rawconf {
	/* Sorted by type and name; one whose name is taken or bad is left out. */
	struct rawconf_section *sections;
	size_t n_sections;
	struct rawconf_problem *problems;
	size_t n_problems;
	bool is_out_of_memory;

	struct rawconf_section *current; /* while reading; NULL: keys are skipped */
	bool is_in_section;
	size_t allocated_sections;
};

/* Reads `text` into a zeroed struct.  What is wrong with it is a problem, not
 * an error. */
void rawconf_read(struct rawconf *raw, const char *text, size_t len);
void rawconf_done(struct rawconf *raw);

/* The value of a key of this section; NULL if it was not given, or for no
 * section at all (NULL). */
const struct rawconf_value *rawconf_get(const struct rawconf_section *section,
					enum rawconf_key key);
const char *rawconf_key_name(enum rawconf_key key);

/* Notes a problem: `what; remedy`.  Line 0 is the file as a whole. */
void rawconf_problem(struct rawconf *raw, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* All problems by line, a line of text each, `PATH:LINE: ...`.  NULL if memory
 * ran out; freed by the caller. */
char *rawconf_report(struct rawconf *raw, const char *path);

#endif
