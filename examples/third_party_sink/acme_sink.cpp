// A sink in twenty lines: every event of a stream as a line of JSON at the end of a file.
#include <annal/sdk.hpp>

#include <fstream>
#include <string>
#include <tuple>

struct AcmeSink : annal::Sink {
    static constexpr auto kName = "acme";
    std::string path;
    static auto config() {
        return std::tuple{annal::required("path", &AcmeSink::path).about("file to append to")};
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        return out.append_lines(batch);
    }

    annal::Outcome send(const annal::Delivery& delivery) {
        std::ofstream file(path, std::ios::app | std::ios::binary);
        file << delivery.payload() << std::flush;
        return file ? annal::delivered() : annal::retry("can't write to " + path);
    }
};

ANNAL_PLUGIN("com.acme.audit-sink", "1.0.0", "Acme", "Apache-2.0", AcmeSink)
