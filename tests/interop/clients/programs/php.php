<?php
// The AWS SDK for PHP: asks S3 at S3_URL; with AGAIN_AFTER once more after as many seconds.
// usage: php.php AUTOLOAD
require $argv[1];

if (($argv[2] ?? "") === "version") {
    echo Aws\Sdk::VERSION, "\n";
    exit;
}
$options = ["endpoint" => getenv("S3_URL"), "use_path_style_endpoint" => true];
if (getenv("AWS_REGION")) {
    $options["region"] = getenv("AWS_REGION");
}
$s3 = new Aws\S3\S3Client($options);
$s3->listBuckets();
if (getenv("AGAIN_AFTER")) {
    sleep((int) getenv("AGAIN_AFTER"));
    $s3->listBuckets();
}
