mod guards;
mod histories;
mod oracle;
mod parsing;
mod rules;
mod written;
