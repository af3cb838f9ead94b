/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/poller.h"

#include <errno.h>
#include <stdlib.h>

int poller_add(struct poller **slot, struct fuse_pollhandle *ph)
{
	if (!*slot) {
		*slot = calloc(1, sizeof(**slot));
		if (!*slot) {
			fuse_pollhandle_destroy(ph);
			return -ENOMEM;
		}
	} else {
		fuse_pollhandle_destroy((*slot)->ph);
	}
	(*slot)->ph = ph;
	return 0;
}

void poller_take(struct poller **slot, struct poller **list)
{
	struct poller *p = *slot;

	if (!p)
		return;
	*slot = NULL;
	p->next = *list;
	*list = p;
}

static void end(struct poller *list, int wake)
{
	while (list) {
		struct poller *p = list;

		list = p->next;
		if (wake)
			fuse_lowlevel_notify_poll(p->ph);
		fuse_pollhandle_destroy(p->ph);
		free(p);
	}
}

void poller_wake(struct poller *list)
{
	end(list, 1);
}

void poller_free(struct poller *list)
{
	end(list, 0);
}
