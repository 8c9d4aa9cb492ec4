#pragma once

#include "runtime/cli/arguments.h"

namespace annal::cli {

// What can be asked of the program, a function each. Results go to standard output, complaints to
// standard error; the return value is the exit code.

int serve(const Arguments& arguments);
int migrate(const Arguments& arguments);
int keys_create(const Arguments& arguments);
int keys_list(const Arguments& arguments);
int keys_revoke(const Arguments& arguments);
int config_get(const Arguments& arguments);
int config_set(const Arguments& arguments);
int jobs_list(const Arguments& arguments);
int retention_run(const Arguments& arguments);
int secrets_new_key(const Arguments& arguments);
int secrets_rekey(const Arguments& arguments);
int plugins_list(const Arguments& arguments);
int plugins_validate(const Arguments& arguments);
int streams_create(const Arguments& arguments);
int streams_list(const Arguments& arguments);
int streams_get(const Arguments& arguments);
int streams_change(const Arguments& arguments);
int streams_pause(const Arguments& arguments);
int streams_resume(const Arguments& arguments);
int streams_probe(const Arguments& arguments);
int streams_revoke(const Arguments& arguments);
int streams_replay(const Arguments& arguments);
int streams_dead_letters(const Arguments& arguments);
int streams_redrive(const Arguments& arguments);
int webhooks_create(const Arguments& arguments);
int webhooks_list(const Arguments& arguments);
int webhooks_get(const Arguments& arguments);
int webhooks_change(const Arguments& arguments);
int webhooks_enable(const Arguments& arguments);
int webhooks_disable(const Arguments& arguments);
int webhooks_revoke(const Arguments& arguments);
int webhooks_rotate_secret(const Arguments& arguments);
int webhooks_test(const Arguments& arguments);
int webhooks_recover(const Arguments& arguments);
int webhooks_deliveries(const Arguments& arguments);
int webhooks_delivery(const Arguments& arguments);
int webhooks_replay(const Arguments& arguments);
int erasures_create(const Arguments& arguments);
int erasures_list(const Arguments& arguments);
int erasures_show(const Arguments& arguments);
int export_events(const Arguments& arguments);
int tail_events(const Arguments& arguments);
int load_samples(const Arguments& arguments);
int confirm_clock(const Arguments& arguments);
int check_data(const Arguments& arguments);
int back_up(const Arguments& arguments);

}  // namespace annal::cli
