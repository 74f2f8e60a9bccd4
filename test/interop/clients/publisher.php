<?php
// Runs Debian's php-pubsubhubbub-publisher: publisher.php HUB TOPIC...
// Prints "true" if the library reports that the hub accepted the update, else "false" and the hub's response.
require '/usr/share/php/Pubsubhubbub/Publisher/autoload.php';

$topics = $argv;
array_shift($topics);
$hub = array_shift($topics);

$publisher = new pubsubhubbub\publisher\Publisher($hub);
ob_start(); // the library lets curl print the response
$accepted = $publisher->publish_update($topics);
$answer = ob_get_clean();
echo $accepted ? "true\n" : "false: " . $answer . "\n";
