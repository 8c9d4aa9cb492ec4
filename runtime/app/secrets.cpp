#include "runtime/app/secrets.h"

#include <cctype>
#include <fstream>
#include <iterator>

namespace annal {

SecretLookup make_secret_lookup(const std::filesystem::path& data_dir, Environment environment) {
    return [data_dir, environment = std::move(environment)](const std::string& name
           ) -> std::optional<std::string> {
        std::string variable = "ANNAL_SECRET_";
        for (const unsigned char c : name)
            variable += std::isalnum(c) ? static_cast<char>(std::toupper(c)) : '_';
        if (auto value = environment(variable.c_str())) return value;
        if (name.empty() || name.find("..") != std::string::npos || name.front() == '/')
            return std::nullopt;
        std::ifstream in(data_dir / "secrets" / name, std::ios::binary);
        if (!in) return std::nullopt;
        std::string value((std::istreambuf_iterator<char>(in)), {});
        while (!value.empty() && (value.back() == '\n' || value.back() == '\r')) value.pop_back();
        return value;
    };
}

}  // namespace annal
