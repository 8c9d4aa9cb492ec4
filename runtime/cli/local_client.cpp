#include "runtime/cli/local_client.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

namespace annal::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using Socket = asio::local::stream_protocol::socket;
using Parser = beast::http::response_parser<beast::http::buffer_body>;

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) {
        return static_cast<char>(std::tolower(c));
    });
    return result;
}

Error broken(const std::filesystem::path& socket, const boost::system::error_code& error) {
    return Error{
        Errc::unavailable,
        "the node behind " + socket.string() + " did not answer: " + error.message()};
}

std::map<std::string, std::string> fields_of(const Parser& parser) {
    std::map<std::string, std::string> fields;
    for (const auto& field : parser.get())
        fields[lower({field.name_string().data(), field.name_string().size()})] =
            std::string(field.value());
    return fields;
}

}  // namespace

bool LocalClient::is_up() const {
    asio::io_context io;
    Socket socket(io);
    boost::system::error_code error;
    socket.connect(asio::local::stream_protocol::endpoint(socket_.string()), error);
    return !error;
}

Result<LocalClient::Answer> LocalClient::send(const Call& call) const {
    asio::io_context io;
    Socket socket(io);
    boost::system::error_code error;
    socket.connect(asio::local::stream_protocol::endpoint(socket_.string()), error);
    if (error) return broken(socket_, error);

    beast::http::request<beast::http::string_body> request(
        beast::http::string_to_verb(call.method), call.target, 11
    );
    request.set(beast::http::field::host, "localhost");
    request.set(beast::http::field::connection, "close");
    request.set(beast::http::field::te, "trailers");
    if (!call.project.empty()) request.set("Annal-Project", call.project);
    if (!call.content_type.empty())
        request.set(beast::http::field::content_type, call.content_type);
    for (const auto& [name, value] : call.headers) request.set(name, value);
    request.body() = call.body;
    request.prepare_payload();
    beast::http::write(socket, request, error);
    if (error) return broken(socket_, error);

    beast::flat_buffer buffer;
    Parser parser;
    parser.body_limit(boost::none);
    beast::http::read_header(socket, buffer, parser, error);
    if (error) return broken(socket_, error);
    Answer answer;
    answer.status = parser.get().result_int();
    answer.headers = fields_of(parser);
    const bool streamed = call.on_body && answer.status / 100 == 2;
    std::string chunk(64U << 10, '\0');
    while (!parser.is_done()) {
        parser.get().body().data = chunk.data();
        parser.get().body().size = chunk.size();
        beast::http::read_some(socket, buffer, parser, error);
        if (error == beast::http::error::need_buffer) error = {};
        if (error) return broken(socket_, error);
        const std::string_view piece(chunk.data(), chunk.size() - parser.get().body().size);
        if (!streamed) {
            answer.body += piece;
        } else if (!piece.empty() && !call.on_body(piece)) {
            return Error{Errc::cancelled, "stopped"};
        }
    }
    answer.trailers = fields_of(parser);  // the parser adds trailers to the fields
    return answer;
}

}  // namespace annal::cli
