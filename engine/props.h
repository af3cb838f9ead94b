/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_PROPS_H
#define LUNFS_PROPS_H

/*
 * The files of each kind of directory, one table a kind: symbol, name, and how
 * its content behaves.  fs/ makes the tree of it, the engine says in its events
 * which of them changed (a bit mask: 1 << symbol), man pages are held to it.
 *
 * Kinds: STATE (an event for each change), PROGRESS (an event when the number
 * changes, at most one a second), COUNTER (no events; a rendering is kept one
 * second), FIXED (never changes after it is set), LINK (a symlink; absent while
 * its object does not exist), NODE (a directory or data file).
 * Modes: r 0444, rw 0644, w 0200.
 */

#define ELEMENT_FILES(X)                                                         \
	X(ELEMENT_URL, "url", STATE, rw)                                         \
	X(ELEMENT_ACCESS, "access", STATE, rw)                                   \
	X(ELEMENT_SIZE, "size", STATE, r)                                        \
	X(ELEMENT_BLOCK_SIZE, "block_size", STATE, r)                            \
	X(ELEMENT_ALLOCATED, "allocated", COUNTER, r)                            \
	X(ELEMENT_VENDOR, "vendor", STATE, r)                                    \
	X(ELEMENT_PRODUCT, "product", STATE, r)                                  \
	X(ELEMENT_REVISION, "revision", STATE, r)                                \
	X(ELEMENT_SERIAL, "serial", STATE, r)                                    \
	X(ELEMENT_WWN, "wwn", STATE, r)                                          \
	X(ELEMENT_THIN, "thin", STATE, r)                                        \
	X(ELEMENT_OPERATIONAL_STATUS, "OperationalStatus", STATE, r)             \
	X(ELEMENT_ERROR, "error", STATE, r)                                      \
	X(ELEMENT_SESSIONS, "sessions", COUNTER, r)                              \
	X(ELEMENT_GROUPS, "groups", STATE, r)                                    \
	X(ELEMENT_RELATIONSHIPS, "relationships", STATE, r)                      \
	X(ELEMENT_RESULT, "result", STATE, r)                                    \
	X(ELEMENT_BACKING, "backing", LINK, r)                                   \
	X(ELEMENT_DATA, "data", NODE, rw)

#define GROUP_FILES(X)                                                           \
	X(GROUP_SPEC, "spec", STATE, rw)                                         \
	X(GROUP_RESULT, "result", STATE, r)                                      \
	X(GROUP_MEMBERS, "members", STATE, rw)                                   \
	X(GROUP_CONTROL, "control", STATE, rw)                                   \
	X(GROUP_PERSISTENT, "Persistent", STATE, rw)                             \
	X(GROUP_DELETE_ON_EMPTY, "DeleteOnEmptyElement", STATE, rw)              \
	X(GROUP_DELETE_ON_UNASSOCIATED, "DeleteOnUnassociated", STATE, rw)       \
	X(GROUP_RELATIONSHIP_NAME, "RelationshipName", STATE, r)                 \
	X(GROUP_SYNC_TYPE, "SyncType", STATE, r)                                 \
	X(GROUP_MODE, "Mode", STATE, r)                                          \
	X(GROUP_COPY_STATE, "CopyState", STATE, r)                               \
	X(GROUP_REQUESTED_COPY_STATE, "RequestedCopyState", STATE, r)            \
	X(GROUP_PROGRESS_STATUS, "ProgressStatus", STATE, r)                     \
	X(GROUP_PERCENT_SYNCED, "PercentSynced", PROGRESS, r)                    \
	X(GROUP_SYNC_MAINTAINED, "SyncMaintained", STATE, r)                     \
	X(GROUP_CONSISTENCY, "Consistency", STATE, r)                            \
	X(GROUP_CONSISTENCY_ENABLED, "ConsistencyEnabled", STATE, r)             \
	X(GROUP_CONSISTENCY_TYPE, "ConsistencyType", STATE, r)                   \
	X(GROUP_CONSISTENCY_STATE, "ConsistencyState", STATE, r)                 \
	X(GROUP_CONSISTENCY_STATUS, "ConsistencyStatus", STATE, r)               \
	X(GROUP_COPY_PRIORITY, "CopyPriority", STATE, rw)                        \
	X(GROUP_COPY_RECOVERY_MODE, "CopyRecoveryMode", STATE, r)                \
	X(GROUP_FAILED_COPY_STOPS_HOST_IO, "FailedCopyStopsHostIO", STATE, r)    \
	X(GROUP_WHEN_ESTABLISHED, "WhenEstablished", STATE, r)                   \
	X(GROUP_WHEN_SYNCED, "WhenSynced", STATE, r)                             \
	X(GROUP_WHEN_SYNCHRONIZED, "WhenSynchronized", STATE, r)                 \
	X(GROUP_WHEN_ACTIVATED, "WhenActivated", STATE, r)                       \
	X(GROUP_WHEN_DEACTIVATED, "WhenDeactivated", STATE, r)                   \
	X(GROUP_WHEN_SUSPENDED, "WhenSuspended", STATE, r)                       \
	X(GROUP_CONSISTENCY_METHOD, "consistency", STATE, r)                     \
	X(GROUP_WAITING_FOR, "waiting_for", COUNTER, r)                          \
	X(GROUP_LAST_PROGRESS, "last_progress", COUNTER, r)                      \
	X(GROUP_RELATIONSHIPS, "relationships", STATE, r)                        \
	X(GROUP_SOURCE, "source", LINK, r)                                       \
	X(GROUP_JOB, "job", LINK, r)                                             \
	X(GROUP_PAIRS, "pairs", NODE, r)                                         \
	X(GROUP_IMAGES, "images", NODE, r)                                       \
	X(GROUP_WAIT, "wait", NODE, r)

#define PAIR_FILES(X)                                         \
	X(PAIR_SOURCE, "source", LINK, r)                     \
	X(PAIR_TARGET, "target", LINK, r)                     \
	X(PAIR_COPY_STATE, "CopyState", STATE, r)             \
	X(PAIR_PROGRESS_STATUS, "ProgressStatus", STATE, r)   \
	X(PAIR_PERCENT_SYNCED, "PercentSynced", PROGRESS, r)  \
	X(PAIR_SYNC_STATE, "SyncState", STATE, r)             \
	X(PAIR_COPY_TYPE, "CopyType", STATE, r)               \
	X(PAIR_REPLICA_TYPE, "ReplicaType", STATE, r)         \
	X(PAIR_COPY_METHODOLOGY, "CopyMethodology", STATE, r) \
	X(PAIR_WHEN_SYNCED, "WhenSynced", STATE, r)           \
	X(PAIR_BYTES_TOTAL, "bytes_total", COUNTER, r)        \
	X(PAIR_BYTES_COPIED, "bytes_copied", COUNTER, r)      \
	X(PAIR_BYTES_SKIPPED, "bytes_skipped", COUNTER, r)    \
	X(PAIR_ERROR, "error", STATE, r)                      \
	X(PAIR_VERIFIED, "verified", STATE, r)                \
	X(PAIR_MAP, "map", PROGRESS, r)                       \
	X(PAIR_DIGEST, "digest", STATE, rw)                   \
	X(PAIR_RESULT, "result", STATE, r)

#define JOB_FILES(X)                                                             \
	X(JOB_NAME, "Name", STATE, r)                                            \
	X(JOB_STATE, "JobState", STATE, r)                                       \
	X(JOB_PERCENT_COMPLETE, "PercentComplete", PROGRESS, r)                  \
	X(JOB_OPERATIONAL_STATUS, "OperationalStatus", STATE, r)                 \
	X(JOB_ERROR_CODE, "ErrorCode", STATE, r)                                 \
	X(JOB_ERROR_DESCRIPTION, "ErrorDescription", STATE, r)                   \
	X(JOB_START_TIME, "StartTime", STATE, r)                                 \
	X(JOB_ELAPSED_TIME, "ElapsedTime", COUNTER, r)                           \
	X(JOB_TIME_OF_LAST_STATE_CHANGE, "TimeOfLastStateChange", STATE, r)      \
	X(JOB_TIME_BEFORE_REMOVAL, "TimeBeforeRemoval", STATE, r)                \
	X(JOB_DELETE_ON_COMPLETION, "DeleteOnCompletion", STATE, rw)             \
	X(JOB_BYTES_TOTAL, "bytes_total", COUNTER, r)                            \
	X(JOB_BYTES_COPIED, "bytes_copied", COUNTER, r)                          \
	X(JOB_BYTES_SKIPPED, "bytes_skipped", COUNTER, r)                        \
	X(JOB_BYTES_PER_SECOND, "bytes_per_second", COUNTER, r)                  \
	X(JOB_SECONDS_LEFT, "seconds_left", COUNTER, r)                          \
	X(JOB_GROUP, "group", LINK, r)                                           \
	X(JOB_CONTROL, "control", FIXED, w)                                      \
	X(JOB_RESULT, "result", STATE, r)

#define POOL_FILES(X)                                                            \
	X(POOL_TYPE, "type", FIXED, r)                                           \
	X(POOL_PATH, "path", FIXED, r)                                           \
	X(POOL_TOTAL, "TotalManagedSpace", COUNTER, r)                           \
	X(POOL_REMAINING, "RemainingManagedSpace", COUNTER, r)                   \
	X(POOL_RESERVED, "reserved", COUNTER, r)                                 \
	X(POOL_IMAGES, "images", STATE, r)

/* capabilities/: a file for each property and method of
 * CIM_ReplicationServiceCapabilities. */
#define CAPABILITY_FILES(X)                                                          \
	X(CAP_TYPES, "SupportedReplicationTypes", FIXED, r)                          \
	X(CAP_OBJECTS, "SupportedStorageObjects", FIXED, r)                          \
	X(CAP_SYNCHRONOUS, "SupportedSynchronousActions", FIXED, r)                  \
	X(CAP_ASYNCHRONOUS, "SupportedAsynchronousActions", FIXED, r)                \
	X(CAP_TO_TYPE, "ConvertSyncTypeToReplicationType", FIXED, r)                 \
	X(CAP_FROM_TYPE, "ConvertReplicationTypeToSyncType", FIXED, r)               \
	X(CAP_SYNCHRONIZATION, "GetSynchronizationSupported", FIXED, r)              \
	X(CAP_TYPES_FOR_SYSTEM, "GetSupportedReplicationTypesForSystem", FIXED, r)   \
	X(CAP_COPY_STATES, "GetSupportedCopyStates", FIXED, r)                       \
	X(CAP_GROUP_COPY_STATES, "GetSupportedGroupCopyStates", FIXED, r)            \
	X(CAP_WAIT_STATES, "GetSupportedWaitForCopyStates", FIXED, r)                \
	X(CAP_FEATURES, "GetSupportedFeatures", FIXED, r)                            \
	X(CAP_GROUP_FEATURES, "GetSupportedGroupFeatures", FIXED, r)                 \
	X(CAP_LIST_FEATURES, "GetSupportedListFeatures", FIXED, r)                   \
	X(CAP_CONSISTENCY, "GetSupportedConsistency", FIXED, r)                      \
	X(CAP_OPERATIONS, "GetSupportedOperations", FIXED, r)                        \
	X(CAP_GROUP_OPERATIONS, "GetSupportedGroupOperations", FIXED, r)             \
	X(CAP_LIST_OPERATIONS, "GetSupportedListOperations", FIXED, r)               \
	X(CAP_DEFINE_STATE, "GetSupportedSettingsDefineStateOperations", FIXED, r)   \
	X(CAP_THIN, "GetSupportedThinProvisioningFeatures", FIXED, r)                \
	X(CAP_COMPRESSION, "GetSupportedStorageCompressionFeatures", FIXED, r)       \
	X(CAP_TOKENIZED, "GetSupportedTokenizedReplicationType", FIXED, r)           \
	X(CAP_CONNECTIONS, "GetSupportedConnectionFeatures", FIXED, r)               \
	X(CAP_MAXIMUM, "GetSupportedMaximum", FIXED, r)                              \
	X(CAP_DEFAULT_CONSISTENCY, "GetDefaultConsistency", FIXED, r)                \
	X(CAP_DEFAULT_PERSISTENCY, "GetDefaultGroupPersistency", FIXED, r)           \
	X(CAP_SETTINGS, "GetSupportedReplicationSettingData", FIXED, r)              \
	X(CAP_SETTING_TIMES, "GetSupportedReplicationSettingDataDateTime", FIXED, r) \
	X(CAP_DEFAULT_SETTINGS, "GetDefaultReplicationSettingData", FIXED, r)

#define PROPS_ENUM_(symbol, name, kind, mode) symbol,
enum element_file { ELEMENT_FILES(PROPS_ENUM_) ELEMENT_N_FILES };
enum group_file { GROUP_FILES(PROPS_ENUM_) GROUP_N_FILES };
enum pair_file { PAIR_FILES(PROPS_ENUM_) PAIR_N_FILES };
enum job_file { JOB_FILES(PROPS_ENUM_) JOB_N_FILES };
enum pool_file { POOL_FILES(PROPS_ENUM_) POOL_N_FILES };
enum capability_file { CAPABILITY_FILES(PROPS_ENUM_) CAPABILITY_N_FILES };

#endif
