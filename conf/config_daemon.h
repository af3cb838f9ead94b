/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CONFIG_DAEMON_H
#define LUNFS_CONFIG_DAEMON_H

/* The section [daemon] and the readers of single values, for config.c. */

#include "conf/config.h"
#include "conf/rawconf.h"

/*
 * Fills `daemon` from the section (NULL: there is none) and the defaults, but
 * for default_pool.  Problems go to `raw`.
 */
void config_daemon_build(struct rawconf *raw, const struct rawconf_section *section,
			 struct config_daemon *daemon);

/* Each leaves the result alone if the key is not given or its value is wrong,
 * which is then a problem. */
void config_read_bool(struct rawconf *raw, const struct rawconf_section *section,
		      enum rawconf_key key, bool *ret_bool);
void config_read_size(struct rawconf *raw, const struct rawconf_section *section,
		      enum rawconf_key key, uint64_t low, uint64_t high,
		      const char *range, uint64_t *ret_bytes);
/* The limits and the result count `unit_ms` milliseconds. */
void config_read_duration(struct rawconf *raw, const struct rawconf_section *section,
			  enum rawconf_key key, unsigned unit_ms, unsigned low,
			  unsigned high, const char *range, unsigned *ret_duration);
/* The index of the value among n names. */
void config_read_choice(struct rawconf *raw, const struct rawconf_section *section,
			enum rawconf_key key, const char *const *names, size_t n,
			unsigned *ret_index);
/* Whether the key is given with an absolute path. */
bool config_is_path(struct rawconf *raw, const struct rawconf_section *section,
		    enum rawconf_key key);

/* A copy of the text ("" for NULL), never NULL while memory lasts. */
char *config_copy(struct rawconf *raw, const char *text);

#endif
