/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CIM_H
#define LUNFS_CIM_H

/*
 * The vocabulary of the CIM replication model (CIM schema 2.49: Synchronized,
 * StorageSynchronized, GroupSynchronized, ReplicationService, ConcreteJob).
 *
 * Every value map is one X-macro table here: symbol, number, name.  The enum
 * and the table that names and parses its values both come from it; there is
 * no second copy.
 */

#include <stddef.h>

#define CIM_SYNC_TYPE(X)                                                         \
	X(CIM_SYNC_MIRROR, 6, "Mirror")                                          \
	X(CIM_SYNC_SNAPSHOT, 7, "Snapshot")                                      \
	X(CIM_SYNC_CLONE, 8, "Clone")                                            \
	X(CIM_SYNC_TOKENIZED_CLONE, 9, "TokenizedClone")

#define CIM_MODE(X)                                                              \
	X(CIM_MODE_SYNCHRONOUS, 2, "Synchronous")                                \
	X(CIM_MODE_ASYNCHRONOUS, 3, "Asynchronous")                              \
	X(CIM_MODE_ADAPTIVE, 4, "Adaptive")

#define CIM_CONSISTENCY(X)                                                       \
	X(CIM_CONSISTENCY_NONE, 2, "No Consistency")                             \
	X(CIM_CONSISTENCY_SEQUENTIAL, 3, "Sequential Consistency")

#define CIM_COPY_STATE(X)                                                        \
	X(CIM_COPY_INITIALIZED, 2, "Initialized")                                \
	X(CIM_COPY_UNSYNCHRONIZED, 3, "Unsynchronized")                          \
	X(CIM_COPY_SYNCHRONIZED, 4, "Synchronized")                              \
	X(CIM_COPY_BROKEN, 5, "Broken")                                          \
	X(CIM_COPY_FRACTURED, 6, "Fractured")                                    \
	X(CIM_COPY_SPLIT, 7, "Split")                                            \
	X(CIM_COPY_INACTIVE, 8, "Inactive")                                      \
	X(CIM_COPY_SUSPENDED, 9, "Suspended")                                    \
	X(CIM_COPY_FAILEDOVER, 10, "Failedover")                                 \
	X(CIM_COPY_PREPARED, 11, "Prepared")                                     \
	X(CIM_COPY_ABORTED, 12, "Aborted")                                       \
	X(CIM_COPY_SKEWED, 13, "Skewed")                                         \
	X(CIM_COPY_MIXED, 14, "Mixed")                                           \
	X(CIM_COPY_NOT_APPLICABLE, 15, "Not Applicable")                         \
	X(CIM_COPY_PARTITIONED, 16, "Partitioned")                               \
	X(CIM_COPY_INVALID, 17, "Invalid")                                       \
	X(CIM_COPY_RESTORED, 18, "Restored")

#define CIM_PROGRESS_STATUS(X)                                                   \
	X(CIM_PROGRESS_UNKNOWN, 0, "Unknown")                                    \
	X(CIM_PROGRESS_COMPLETED, 2, "Completed")                                \
	X(CIM_PROGRESS_DORMANT, 3, "Dormant")                                    \
	X(CIM_PROGRESS_INITIALIZING, 4, "Initializing")                          \
	X(CIM_PROGRESS_PREPARING, 5, "Preparing")                                \
	X(CIM_PROGRESS_SYNCHRONIZING, 6, "Synchronizing")                        \
	X(CIM_PROGRESS_RESYNCING, 7, "Resyncing")                                \
	X(CIM_PROGRESS_RESTORING, 8, "Restoring")                                \
	X(CIM_PROGRESS_FRACTURING, 9, "Fracturing")                              \
	X(CIM_PROGRESS_SPLITTING, 10, "Splitting")                               \
	X(CIM_PROGRESS_FAILING_OVER, 11, "Failing over")                         \
	X(CIM_PROGRESS_FAILING_BACK, 12, "Failing back")                         \
	X(CIM_PROGRESS_ABORTING, 13, "Aborting")                                 \
	X(CIM_PROGRESS_MIXED, 14, "Mixed")                                       \
	X(CIM_PROGRESS_NOT_APPLICABLE, 15, "Not Applicable")                     \
	X(CIM_PROGRESS_SUSPENDING, 16, "Suspending")                             \
	X(CIM_PROGRESS_REQUIRES_FRACTURE, 17, "Requires fracture")               \
	X(CIM_PROGRESS_REQUIRES_RESYNC, 18, "Requires resync")                   \
	X(CIM_PROGRESS_REQUIRES_ACTIVATE, 19, "Requires activate")               \
	X(CIM_PROGRESS_PENDING, 20, "Pending")                                   \
	X(CIM_PROGRESS_DETACHING, 21, "Detaching")                               \
	X(CIM_PROGRESS_REQUIRES_DETACH, 22, "Requires detach")                   \
	X(CIM_PROGRESS_TERMINATING, 23, "Terminating")                           \
	X(CIM_PROGRESS_REQUIRES_SPLIT, 24, "Requires split")                     \
	X(CIM_PROGRESS_REQUIRES_RESUME, 25, "Requires resume")

#define CIM_SYNC_STATE(X)                                                        \
	X(CIM_SYNC_STATE_INITIALIZED, 2, "Initialized")                          \
	X(CIM_SYNC_STATE_PREPARE_IN_PROGRESS, 3, "PrepareInProgress")            \
	X(CIM_SYNC_STATE_PREPARED, 4, "Prepared")                                \
	X(CIM_SYNC_STATE_RESYNC_IN_PROGRESS, 5, "ResyncInProgress")              \
	X(CIM_SYNC_STATE_SYNCHRONIZED, 6, "Synchronized")                        \
	X(CIM_SYNC_STATE_FRACTURE_IN_PROGRESS, 7, "Fracture In Progress")        \
	X(CIM_SYNC_STATE_QUIESCE_IN_PROGRESS, 8, "QuiesceInProgress")            \
	X(CIM_SYNC_STATE_QUIESCED, 9, "Quiesced")                                \
	X(CIM_SYNC_STATE_RESTORE_IN_PROGRESS, 10, "Restore In Progress")         \
	X(CIM_SYNC_STATE_IDLE, 11, "Idle")                                       \
	X(CIM_SYNC_STATE_BROKEN, 12, "Broken")                                   \
	X(CIM_SYNC_STATE_FRACTURED, 13, "Fractured")                             \
	X(CIM_SYNC_STATE_FROZEN, 14, "Frozen")                                   \
	X(CIM_SYNC_STATE_COPY_IN_PROGRESS, 15, "Copy In Progress")

#define CIM_REPLICA_TYPE(X)                                                      \
	X(CIM_REPLICA_NOT_SPECIFIED, 0, "Not Specified")                         \
	X(CIM_REPLICA_FULL_COPY, 2, "Full Copy")                                 \
	X(CIM_REPLICA_BEFORE_DELTA, 3, "Before Delta")                           \
	X(CIM_REPLICA_AFTER_DELTA, 4, "After Delta")                             \
	X(CIM_REPLICA_LOG, 5, "Log")

#define CIM_COPY_TYPE(X)                                                         \
	X(CIM_COPY_TYPE_ASYNC, 2, "Async")                                       \
	X(CIM_COPY_TYPE_SYNC, 3, "Sync")                                         \
	X(CIM_COPY_TYPE_UNSYNC_ASSOC, 4, "UnSyncAssoc")                          \
	X(CIM_COPY_TYPE_UNSYNC_UNASSOC, 5, "UnSyncUnAssoc")

#define CIM_COPY_PRIORITY(X)                                                     \
	X(CIM_PRIORITY_NOT_MANAGED, 0, "Not Managed")                            \
	X(CIM_PRIORITY_LOW, 1, "Low")                                            \
	X(CIM_PRIORITY_SAME, 2, "Same")                                          \
	X(CIM_PRIORITY_HIGH, 3, "High")                                          \
	X(CIM_PRIORITY_URGENT, 4, "Urgent")

#define CIM_COPY_METHODOLOGY(X)                                                  \
	X(CIM_METHODOLOGY_NOT_SPECIFIED, 0, "Not Specified")                     \
	X(CIM_METHODOLOGY_OTHER, 1, "Other")                                     \
	X(CIM_METHODOLOGY_IMPLEMENTATION, 2, "Implementation decides")           \
	X(CIM_METHODOLOGY_FULL_COPY, 3, "Full Copy")                             \
	X(CIM_METHODOLOGY_INCREMENTAL, 4, "Incremental-Copy")                    \
	X(CIM_METHODOLOGY_DIFFERENTIAL, 5, "Differential-Copy")                  \
	X(CIM_METHODOLOGY_COPY_ON_WRITE, 6, "Copy-On-Write")                     \
	X(CIM_METHODOLOGY_COPY_ON_ACCESS, 7, "Copy-On-Access")                   \
	X(CIM_METHODOLOGY_DELTA_UPDATE, 8, "Delta-Update")                       \
	X(CIM_METHODOLOGY_SNAP_AND_CLONE, 9, "Snap-And-Clone")                   \
	X(CIM_METHODOLOGY_COPY_BEFORE_ACTIVATION, 10, "Copy-before-Activation")  \
	X(CIM_METHODOLOGY_REDIRECT_ON_WRITE, 11, "Redirect-On-Write")

#define CIM_COPY_RECOVERY_MODE(X)                                                \
	X(CIM_RECOVERY_UNKNOWN, 0, "Unknown")                                    \
	X(CIM_RECOVERY_AUTOMATIC, 2, "Automatic")                                \
	X(CIM_RECOVERY_MANUAL, 3, "Manual")                                      \
	X(CIM_RECOVERY_IMPLEMENTATION, 4, "Implementation decides")

#define CIM_CONSISTENCY_TYPE(X)                                                  \
	X(CIM_CONSISTENCY_TYPE_SEQUENTIAL, 2, "Sequentially Consistent")

#define CIM_CONSISTENCY_STATE(X)                                                 \
	X(CIM_CONSISTENCY_STATE_UNKNOWN, 0, "Unknown")                           \
	X(CIM_CONSISTENCY_STATE_OTHER, 1, "Other")                               \
	X(CIM_CONSISTENCY_STATE_NOT_APPLICABLE, 2, "Not Applicable")             \
	X(CIM_CONSISTENCY_STATE_CONSISTENT, 3, "Consistent")                     \
	X(CIM_CONSISTENCY_STATE_INCONSISTENT, 4, "Inconsistent")

#define CIM_CONSISTENCY_STATUS(X)                                                \
	X(CIM_CONSISTENCY_STATUS_UNKNOWN, 0, "Unknown")                          \
	X(CIM_CONSISTENCY_STATUS_OTHER, 1, "Other")                              \
	X(CIM_CONSISTENCY_STATUS_COMPLETED, 2, "Completed")                      \
	X(CIM_CONSISTENCY_STATUS_IN_PROGRESS, 3, "Consistency-in-progress")      \
	X(CIM_CONSISTENCY_STATUS_DISABLED, 4, "Consistency disabled")            \
	X(CIM_CONSISTENCY_STATUS_ERROR, 5, "Consistency-error")

#define CIM_JOB_STATE(X)                                                         \
	X(CIM_JOB_NEW, 2, "New")                                                 \
	X(CIM_JOB_STARTING, 3, "Starting")                                       \
	X(CIM_JOB_RUNNING, 4, "Running")                                         \
	X(CIM_JOB_SUSPENDED, 5, "Suspended")                                     \
	X(CIM_JOB_SHUTTING_DOWN, 6, "Shutting Down")                             \
	X(CIM_JOB_COMPLETED, 7, "Completed")                                     \
	X(CIM_JOB_TERMINATED, 8, "Terminated")                                   \
	X(CIM_JOB_KILLED, 9, "Killed")                                           \
	X(CIM_JOB_EXCEPTION, 10, "Exception")                                    \
	X(CIM_JOB_SERVICE, 11, "Service")                                        \
	X(CIM_JOB_QUERY_PENDING, 12, "Query Pending")

#define CIM_JOB_REQUEST(X)                                                       \
	X(CIM_JOB_REQUEST_START, 2, "Start")                                     \
	X(CIM_JOB_REQUEST_SUSPEND, 3, "Suspend")                                 \
	X(CIM_JOB_REQUEST_TERMINATE, 4, "Terminate")                             \
	X(CIM_JOB_REQUEST_KILL, 5, "Kill")                                       \
	X(CIM_JOB_REQUEST_SERVICE, 6, "Service")

/* CIM_ManagedSystemElement.OperationalStatus: the values LunFS uses. */
#define CIM_OPERATIONAL_STATUS(X)                                                \
	X(CIM_STATUS_OK, 2, "OK")                                                \
	X(CIM_STATUS_DEGRADED, 3, "Degraded")                                    \
	X(CIM_STATUS_ERROR, 6, "Error")                                          \
	X(CIM_STATUS_DORMANT, 15, "Dormant")                                     \
	X(CIM_STATUS_COMPLETED, 17, "Completed")

/* ModifyReplicaSynchronization.Operation, and LunFS's own Verify (vendor
 * range). */
#define CIM_OPERATION(X)                                                         \
	X(CIM_OP_ABORT, 2, "Abort")                                              \
	X(CIM_OP_ACTIVATE_CONSISTENCY, 3, "Activate Consistency")                \
	X(CIM_OP_ACTIVATE, 4, "Activate")                                        \
	X(CIM_OP_ADD_SYNC_PAIR, 5, "AddSyncPair")                                \
	X(CIM_OP_DEACTIVATE_CONSISTENCY, 6, "Deactivate Consistency")            \
	X(CIM_OP_DEACTIVATE, 7, "Deactivate")                                    \
	X(CIM_OP_DETACH, 8, "Detach")                                            \
	X(CIM_OP_DISSOLVE, 9, "Dissolve")                                        \
	X(CIM_OP_FAILOVER, 10, "Failover")                                       \
	X(CIM_OP_FAILBACK, 11, "Failback")                                       \
	X(CIM_OP_FRACTURE, 12, "Fracture")                                       \
	X(CIM_OP_REMOVE_SYNC_PAIR, 13, "RemoveSyncPair")                         \
	X(CIM_OP_RESYNC_REPLICA, 14, "Resync Replica")                           \
	X(CIM_OP_RESTORE_FROM_REPLICA, 15, "Restore from Replica")               \
	X(CIM_OP_RESUME, 16, "Resume")                                           \
	X(CIM_OP_RESET_TO_SYNC, 17, "Reset To Sync")                             \
	X(CIM_OP_RESET_TO_ASYNC, 18, "Reset To Async")                           \
	X(CIM_OP_RETURN_TO_RESOURCE_POOL, 19, "Return To ResourcePool")          \
	X(CIM_OP_REVERSE_ROLES, 20, "Reverse Roles")                             \
	X(CIM_OP_SPLIT, 21, "Split")                                             \
	X(CIM_OP_SUSPEND, 22, "Suspend")                                         \
	X(CIM_OP_UNPREPARE, 23, "Unprepare")                                     \
	X(CIM_OP_PREPARE, 24, "Prepare")                                         \
	X(CIM_OP_RESET_TO_ADAPTIVE, 25, "Reset to Adaptive")                     \
	X(CIM_OP_RESET_TO_ACTIVE, 26, "Reset to Active")                         \
	X(CIM_OP_RESET_REPLICA, 27, "Reset Replica")                             \
	X(CIM_OP_VERIFY, 32768, "Verify")

#define CIM_ENUM_(symbol, number, name) symbol = (number),
enum cim_sync_type { CIM_SYNC_TYPE(CIM_ENUM_) };
enum cim_mode { CIM_MODE(CIM_ENUM_) };
enum cim_consistency { CIM_CONSISTENCY(CIM_ENUM_) };
enum cim_copy_state { CIM_COPY_STATE(CIM_ENUM_) };
enum cim_progress_status { CIM_PROGRESS_STATUS(CIM_ENUM_) };
enum cim_sync_state { CIM_SYNC_STATE(CIM_ENUM_) };
enum cim_replica_type { CIM_REPLICA_TYPE(CIM_ENUM_) };
enum cim_copy_type { CIM_COPY_TYPE(CIM_ENUM_) };
enum cim_copy_priority { CIM_COPY_PRIORITY(CIM_ENUM_) };
enum cim_copy_methodology { CIM_COPY_METHODOLOGY(CIM_ENUM_) };
enum cim_copy_recovery_mode { CIM_COPY_RECOVERY_MODE(CIM_ENUM_) };
enum cim_consistency_type { CIM_CONSISTENCY_TYPE(CIM_ENUM_) };
enum cim_consistency_state { CIM_CONSISTENCY_STATE(CIM_ENUM_) };
enum cim_consistency_status { CIM_CONSISTENCY_STATUS(CIM_ENUM_) };
enum cim_job_state { CIM_JOB_STATE(CIM_ENUM_) };
enum cim_job_request { CIM_JOB_REQUEST(CIM_ENUM_) };
enum cim_operational_status { CIM_OPERATIONAL_STATUS(CIM_ENUM_) };
enum cim_operation { CIM_OPERATION(CIM_ENUM_) };

struct cim_value {
	unsigned number;
	const char *name;
};

struct cim_map {
	const char *name; /* of the property: "CopyState" */
	const struct cim_value *values;
	size_t n_values;
};

extern const struct cim_map cim_sync_type, cim_mode, cim_consistency, cim_copy_state,
	cim_progress_status, cim_sync_state, cim_replica_type, cim_copy_type,
	cim_copy_priority, cim_copy_methodology, cim_copy_recovery_mode,
	cim_consistency_type, cim_consistency_state, cim_consistency_status,
	cim_job_state, cim_job_request, cim_operational_status, cim_operation;

/* The ValueMap name of a number; "" for one that the map does not name. */
const char *cim_name(const struct cim_map *map, unsigned number);

/*
 * Reads a ValueMap name (ignoring case, blanks, '-' and '_') or a decimal
 * number of at most 65535.  A number need not be in the map: the caller judges
 * reserved and vendor ranges.  0, or -EINVAL with *ret_number untouched.
 */
int cim_parse(const struct cim_map *map, const char *text, unsigned *ret_number);

/* Whether two names are the same, ignoring case, blanks, '-' and '_'. */
int cim_same_name(const char *a, const char *b);

#endif
