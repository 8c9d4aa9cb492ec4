#include "runtime/plugin/formats.h"

namespace annal {

void Formats::add(std::shared_ptr<Instance> instance) {
    const std::string name = instance->component().name;
    all_[name] = std::move(instance);
}

Result<std::shared_ptr<Instance>> Formats::find(const std::string& name) const {
    const auto found = all_.find(name);
    if (found != all_.end()) return found->second;
    std::string known;
    for (const auto& [each, instance] : all_) known += (known.empty() ? "" : ", ") + each;
    return Error{
        Errc::not_found,
        "no format has the name \"" + name + "\"; there are: " + (known.empty() ? "none" : known)};
}

}  // namespace annal
