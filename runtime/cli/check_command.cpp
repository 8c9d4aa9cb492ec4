#include <unistd.h>

#include <boost/json.hpp>
#include <cstdio>
#include <iostream>

#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"
#include "runtime/store/sqlite/check.h"

namespace annal::cli {

namespace json = boost::json;

namespace {

json::object to_json(const CheckProblem& problem) {
    const auto seq = [](Seq value) { return value == kNoSeq ? json::value() : json::value(value); };
    json::object object;
    object["file"] = problem.file;
    object["project_id"] = problem.project.empty() ? json::value() : json::value(problem.project);
    object["first_seq"] = seq(problem.first_seq);
    object["last_seq"] = seq(problem.last_seq);
    object["problem"] = problem.what;
    return object;
}

std::string to_line(const CheckProblem& problem) {
    std::string line = problem.file + ": ";
    if (!problem.project.empty()) line += "project " + problem.project + ": ";
    return line + problem.what;
}

std::string summary(const CheckReport& report) {
    return std::to_string(report.segments) + " segments, " + std::to_string(report.events) +
           " events (" + std::to_string(report.erased) + " erased, " +
           std::to_string(report.scrubbed) + " without personal data) of " +
           std::to_string(report.projects) + " projects, " + std::to_string(report.batches) +
           " batches: ";
}

int print_json(const CheckReport& report, json::array problems) {
    json::object object;
    object["clean"] = report.problems == 0;
    object["segments"] = report.segments;
    object["projects"] = report.projects;
    object["batches"] = report.batches;
    object["events"] = report.events;
    object["erased"] = report.erased;
    object["scrubbed"] = report.scrubbed;
    object["problem_count"] = report.problems;
    object["problems"] = std::move(problems);
    print(object);
    return report.problems == 0 ? kDone : kFailed;
}

void show_progress(std::int64_t done, std::int64_t of, std::int64_t events) {
    std::fprintf(
        stderr,
        "\r%lld of %lld segments, %lld events ",
        static_cast<long long>(done),
        static_cast<long long>(of),
        static_cast<long long>(events)
    );
    if (done == of) std::fputs("\n", stderr);
}

}  // namespace

int check_data(const Arguments& arguments) {
    std::filesystem::path directory = arguments.data_dir;
    if (directory.empty()) {
        auto settings = settings_of(arguments);
        if (!settings) return fail(settings.error(), kBadInput);
        const auto files = need_files(settings.value(), "name some with --data-dir");
        if (!files) return fail(files.error(), kBadInput);
        directory = settings.value().data_dir;
    }
    json::array problems;
    CheckObserver observer;
    observer.problem = [&](const CheckProblem& problem) {
        if (arguments.json) {
            problems.push_back(to_json(problem));
        } else {
            std::cout << to_line(problem) << "\n";
        }
    };
    if (::isatty(STDERR_FILENO) != 0) observer.progress = show_progress;
    auto report = check_sqlite_store(directory, observer);
    if (!report) return fail(report.error(), kBadInput);
    if (arguments.json) return print_json(report.value(), std::move(problems));
    const std::int64_t found = report.value().problems;
    std::cout << summary(report.value())
              << (found == 0 ? "all as written" : std::to_string(found) + " problems") << "\n";
    return found == 0 ? kDone : kFailed;
}

}  // namespace annal::cli
