#pragma once

namespace annal::sqlite {

// The text of migrations/sqlite/NNNN_<name>.sql.
extern const char* const k_create_control;
extern const char* const k_create_segment;
extern const char* const k_index_segment;
extern const char* const k_seal_segment;
extern const char* const k_create_search;
extern const char* const k_create_keys;

// PRAGMA user_version of each kind of file; 0 is a file whose creation was cut short.
inline constexpr int kControlVersion = 1;
inline constexpr int kSegmentVersion = 1;
inline constexpr int kSealedVersion = 2;
inline constexpr int kSearchVersion = 1;
inline constexpr int kKeysVersion = 1;

}  // namespace annal::sqlite
